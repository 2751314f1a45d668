# As in trial.yaml: a spot interruption to order, for an instance that is tagged crikpy-trial=interrupt.

data "aws_iam_policy_document" "trial_trust" {
  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "Service"
      identifiers = ["fis.amazonaws.com"]
    }
    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [data.aws_caller_identity.here.account_id]
    }
  }
}

data "aws_iam_policy_document" "trial" {
  statement {
    sid       = "FindInstances"
    actions   = ["ec2:DescribeInstances"]
    resources = ["*"]
  }
  statement {
    sid     = "InterruptTaggedOnes"
    actions = ["ec2:SendSpotInstanceInterruptions"]
    resources = [join(":", [
      "arn", data.aws_partition.here.partition, "ec2", data.aws_region.here.name,
      data.aws_caller_identity.here.account_id, "instance/*",
    ])]
    condition {
      test     = "StringEquals"
      variable = "aws:ResourceTag/crikpy-trial"
      values   = ["interrupt"]
    }
  }
}

resource "aws_iam_role" "trial" {
  count              = var.trial ? 1 : 0
  name_prefix        = "crikpy-trial-"
  assume_role_policy = data.aws_iam_policy_document.trial_trust.json
}

resource "aws_iam_role_policy" "trial" {
  count  = var.trial ? 1 : 0
  name   = "interrupt"
  role   = aws_iam_role.trial[0].name
  policy = data.aws_iam_policy_document.trial.json
}

resource "aws_fis_experiment_template" "trial" {
  count       = var.trial ? 1 : 0
  description = "Interrupt one spot instance that is tagged crikpy-trial=interrupt"
  role_arn    = aws_iam_role.trial[0].arn
  stop_condition {
    source = "none"
  }
  target {
    name           = "machine"
    resource_type  = "aws:ec2:spot-instance"
    selection_mode = "COUNT(1)"
    resource_tag {
      key   = "crikpy-trial"
      value = "interrupt"
    }
  }
  action {
    name      = "interrupt"
    action_id = "aws:ec2:send-spot-instance-interruptions"
    parameter {
      key   = "durationBeforeInterruption"
      value = "PT2M"
    }
    target {
      key   = "SpotInstances"
      value = "machine"
    }
  }
  tags = { Name = "crikpy-trial" }
}

output "experiment_template_id" {
  description = "For start-experiment"
  value       = try(aws_fis_experiment_template.trial[0].id, null)
}
