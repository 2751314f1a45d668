# As in interruptions.yaml: the queue of interruptions, the rules that fill it, and who reads it.

locals {
  rules = {
    spot = {
      source      = ["aws.ec2"]
      detail-type = ["EC2 Spot Instance Interruption Warning"]
    }
    rebalance = {
      source      = ["aws.ec2"]
      detail-type = ["EC2 Instance Rebalance Recommendation"]
    }
    state = {
      source      = ["aws.ec2"]
      detail-type = ["EC2 Instance State-change Notification"]
      detail      = { state = ["stopping", "stopped", "shutting-down", "terminated"] }
    }
    reservation = {
      source      = ["aws.ec2"]
      detail-type = ["EC2 Capacity Reservation Instance Interruption Warning"]
    }
    health = {
      source      = ["aws.health"]
      detail-type = ["AWS Health Event"]
      detail      = { service = ["EC2"], eventTypeCategory = ["scheduledChange"] }
    }
    lifecycle = {
      source      = ["aws.autoscaling"]
      detail-type = ["EC2 Instance-terminate Lifecycle Action"]
    }
  }
}

resource "aws_sqs_queue" "interruptions" {
  count                     = local.on_eks ? 1 : 0
  name                      = "${var.cluster_name}-crikpy-interruptions"
  message_retention_seconds = 3600
  sqs_managed_sse_enabled   = true
}

data "aws_iam_policy_document" "queue" {
  count = local.on_eks ? 1 : 0
  statement {
    sid       = "EventBridgeMaySend"
    actions   = ["sqs:SendMessage"]
    resources = [aws_sqs_queue.interruptions[0].arn]
    principals {
      type        = "Service"
      identifiers = ["events.amazonaws.com"]
    }
    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [data.aws_caller_identity.here.account_id]
    }
  }
  statement {
    sid       = "NobodyWithoutTls"
    effect    = "Deny"
    actions   = ["sqs:*"]
    resources = [aws_sqs_queue.interruptions[0].arn]
    principals {
      type        = "*"
      identifiers = ["*"]
    }
    condition {
      test     = "Bool"
      variable = "aws:SecureTransport"
      values   = ["false"]
    }
  }
}

resource "aws_sqs_queue_policy" "interruptions" {
  count     = local.on_eks ? 1 : 0
  queue_url = aws_sqs_queue.interruptions[0].id
  policy    = data.aws_iam_policy_document.queue[0].json
}

resource "aws_cloudwatch_event_rule" "interruptions" {
  for_each      = { for name, rule in local.rules : name => jsonencode(rule) if local.on_eks }
  name          = "${var.cluster_name}-crikpy-${each.key}"
  event_pattern = each.value
}

resource "aws_cloudwatch_event_target" "interruptions" {
  for_each = aws_cloudwatch_event_rule.interruptions
  rule     = each.value.name
  arn      = aws_sqs_queue.interruptions[0].arn
}

resource "aws_autoscaling_lifecycle_hook" "interruptions" {
  for_each               = var.autoscaling_groups
  name                   = "crikpy"
  autoscaling_group_name = each.value
  lifecycle_transition   = "autoscaling:EC2_INSTANCE_TERMINATING"
  heartbeat_timeout      = 300
  default_result         = "CONTINUE"
}

data "aws_iam_policy_document" "controller" {
  count = local.on_eks ? 1 : 0
  statement {
    sid = "ReadTheQueue"
    actions = [
      "sqs:ReceiveMessage",
      "sqs:DeleteMessage",
      "sqs:ChangeMessageVisibility",
      "sqs:GetQueueAttributes",
    ]
    resources = [aws_sqs_queue.interruptions[0].arn]
  }
  statement {
    sid = "AnswerLifecycleHooks"
    actions = [
      "autoscaling:CompleteLifecycleAction",
      "autoscaling:RecordLifecycleActionHeartbeat",
    ]
    resources = [join(":", [
      "arn", data.aws_partition.here.partition, "autoscaling", data.aws_region.here.name,
      data.aws_caller_identity.here.account_id, "autoScalingGroup:*",
    ])]
  }
}

resource "aws_iam_policy" "controller" {
  count  = local.on_eks ? 1 : 0
  name   = "${var.cluster_name}-crikpy-controller"
  policy = data.aws_iam_policy_document.controller[0].json
}

output "queue_url" {
  description = "Value of CRIKPY_SOURCES_QUEUE_URL"
  value       = try(aws_sqs_queue.interruptions[0].url, null)
}

output "controller_policy_arn" {
  description = "Attached to the role of the controller; for roles of your own"
  value       = try(aws_iam_policy.controller[0].arn, null)
}
