# The same as interruptions.yaml, as a Terraform module.
#
#   module "crikpy_interruptions" {
#     source       = "github.com/crikpy/crikpy//hack/aws"
#     cluster_name = "production"
#   }

terraform {
  required_version = ">= 1.5"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.0"
    }
  }
}

variable "cluster_name" {
  description = "Begins the queue's name."
  type        = string
}

variable "autoscaling_groups" {
  description = "Groups to which a lifecycle hook is added, so that their instances wait until their pods are moved."
  type        = set(string)
  default     = []
}

data "aws_caller_identity" "here" {}
data "aws_partition" "here" {}
data "aws_region" "here" {}

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
  name                      = "${var.cluster_name}-crikpy-interruptions"
  message_retention_seconds = 3600
  sqs_managed_sse_enabled   = true
}

data "aws_iam_policy_document" "queue" {
  statement {
    sid       = "EventBridgeMaySend"
    actions   = ["sqs:SendMessage"]
    resources = [aws_sqs_queue.interruptions.arn]
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
    resources = [aws_sqs_queue.interruptions.arn]
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
  queue_url = aws_sqs_queue.interruptions.id
  policy    = data.aws_iam_policy_document.queue.json
}

resource "aws_cloudwatch_event_rule" "interruptions" {
  for_each      = local.rules
  name          = "${var.cluster_name}-crikpy-${each.key}"
  event_pattern = jsonencode(each.value)
}

resource "aws_cloudwatch_event_target" "interruptions" {
  for_each = aws_cloudwatch_event_rule.interruptions
  rule     = each.value.name
  arn      = aws_sqs_queue.interruptions.arn
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
  statement {
    sid = "ReadTheQueue"
    actions = [
      "sqs:ReceiveMessage",
      "sqs:DeleteMessage",
      "sqs:ChangeMessageVisibility",
      "sqs:GetQueueAttributes",
    ]
    resources = [aws_sqs_queue.interruptions.arn]
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
  name   = "${var.cluster_name}-crikpy-controller"
  policy = data.aws_iam_policy_document.controller.json
}

output "queue_url" {
  description = "Value of CRIKPY_SOURCES_QUEUE_URL"
  value       = aws_sqs_queue.interruptions.url
}

output "controller_policy_arn" {
  description = "To be attached to the role of the service account crikpy-controller"
  value       = aws_iam_policy.controller.arn
}
