"""For each alert series with which it fires, and series that look alike with which it must not."""

from __future__ import annotations

from typing import Final

AGENT: Final = '{instance="a:9477",job="crikpy-agent"}'

_SLOW = {
    f'crikpy_admission_duration_seconds_bucket{{le="{le}"}}': f"0+{step}x60"
    for le, step in (("1.0", 0), ("10.0", 10), ("+Inf", 10))
}
_QUICK = dict.fromkeys(_SLOW, "0+10x60")
_LATE = {
    f'crikpy_queue_lag_seconds_bucket{{le="{le}"}}': f"0+{step}x60"
    for le, step in (("20.0", 0), ("60.0", 10), ("+Inf", 10))
}
_SOON = dict.fromkeys(_LATE, "0+10x60")
_PLANNED = 'crikpy_planned_pods{instance="a:9477",job="crikpy-agent",verdict="unsaved"}'
_MARGIN = 'crikpy_checkpoint_margin_seconds_bucket{le="20.0"}'
_EXPIRY = "crikpy_webhook_certificate_expiry_timestamp_seconds"

CASES: Final[dict[str, tuple[dict[str, str], dict[str, str]]]] = {
    "CrikpyNodeCannotSave": ({"crikpy_node_ready": "0x60"}, {"crikpy_node_ready": "1x54 0x6"}),
    "CrikpySaveFailed": (
        {'crikpy_checkpoints_total{outcome="Deadline"}': "_x55 1x5"},
        {
            'crikpy_checkpoints_total{outcome="complete"}': "0+1x60",
            'crikpy_checkpoints_total{outcome="JobEnded"}': "0+1x60",
            'crikpy_checkpoints_total{outcome="Deadline"}': "1x60",
        },
    ),
    "CrikpyNoticeWithUnsavedPods": (
        {_PLANNED: "2x60", f"crikpy_notices_active{AGENT}": "1x60"},
        {_PLANNED: "2x60", f"crikpy_notices_active{AGENT}": "0x60"},
    ),
    "CrikpyMarginShort": ({_MARGIN: "0x50 1x10"}, {_MARGIN: "3x120"}),
    "CrikpyNoLeader": ({"crikpy_leading": "0x60"}, {"crikpy_leading": "1x58 0x10"}),
    "CrikpyWebhookFails": (
        {'crikpy_admissions_total{outcome="failed"}': "0x50 1x10"},
        {'crikpy_admissions_total{outcome="refused"}': "0+1x60"},
    ),
    "CrikpyWebhookSlow": (_SLOW, _QUICK),
    "CrikpyAgentDown": ({f"up{AGENT}": "0x60"}, {f"up{AGENT}": "1x57 0x3", 'up{job="another"}': "0x60"}),
    "CrikpyAgentMissing": (
        {'crikpy_opted_in_pods{state="node_unable"}': "1x60"},
        {'crikpy_opted_in_pods{state="savable"}': "9x60", 'crikpy_opted_in_pods{state="node_unable"}': "0x60"},
    ),
    "CrikpyPodsNotInjected": (
        {'crikpy_opted_in_pods{state="not_injected"}': "1x60"},
        {'crikpy_opted_in_pods{state="not_injected"}': "0x50 1x10"},
    ),
    "CrikpyStoreErrors": (
        {'crikpy_store_errors_total{act="write",reason="StoreForbidden"}': "0+1x60"},
        {'crikpy_store_errors_total{act="write",reason="StoreForbidden"}': "0x50 1x10"},
    ),
    "CrikpyRestoreFailed": (
        {'crikpy_restores_total{outcome="Incompatible"}': "_x55 1x5"},
        {'crikpy_restores_total{outcome="resumed"}': "0+1x60", 'crikpy_restores_total{outcome="cold"}': "0+1x60"},
    ),
    "CrikpyVersionSkew": (
        {'crikpy_build_info{version="1"}': "1x120", 'crikpy_build_info{version="2"}': "1x120"},
        {'crikpy_build_info{version="1"}': "1x120", 'crikpy_build_info{version="1",pod="b"}': "1x120"},
    ),
    "CrikpyCertificateExpires": ({_EXPIRY: "100000x60"}, {_EXPIRY: "9000000x60", f'{_EXPIRY}{{pod="b"}}': "0x60"}),
    "CrikpySourceDown": (
        {'crikpy_source_working{source="queue"}': "0x60"},
        {'crikpy_source_working{source="queue"}': "1x60"},
    ),
    "CrikpyMetadataUnreachable": ({"crikpy_metadata_reachable": "0x60"}, {"crikpy_metadata_reachable": "1x60"}),
    "CrikpyQueueLags": (_LATE, _SOON),
    "CrikpyApiErrors": (
        {'crikpy_action_failures_total{reason="KubeForbidden"}': "0+2x60"},
        {
            'crikpy_action_failures_total{reason="EvictionBlocked"}': "0+9x60",
            'crikpy_action_failures_total{reason="KubeForbidden"}': "0x55 5x5",
        },
    ),
}
"""By alert, series of one value a minute: those that have it fire, and those that must not."""
