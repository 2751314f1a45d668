# As in roles.yaml: who may take on the roles of the agents and the controller on EKS.

locals {
  on_eks           = var.cluster_name != ""
  irsa             = var.oidc_provider != ""
  service_accounts = local.on_eks ? toset(["crikpy-agent", "crikpy-controller"]) : toset([])
}

data "aws_iam_policy_document" "trust" {
  for_each = local.service_accounts
  dynamic "statement" {
    for_each = local.irsa ? [] : [each.value]
    content {
      actions = ["sts:AssumeRole", "sts:TagSession"]
      principals {
        type        = "Service"
        identifiers = ["pods.eks.amazonaws.com"]
      }
      condition {
        test     = "StringEquals"
        variable = "aws:RequestTag/eks-cluster-name"
        values   = [var.cluster_name]
      }
      condition {
        test     = "StringEquals"
        variable = "aws:RequestTag/kubernetes-namespace"
        values   = ["crikpy-system"]
      }
      condition {
        test     = "StringEquals"
        variable = "aws:RequestTag/kubernetes-service-account"
        values   = [statement.value]
      }
    }
  }
  dynamic "statement" {
    for_each = local.irsa ? [each.value] : []
    content {
      actions = ["sts:AssumeRoleWithWebIdentity"]
      principals {
        type = "Federated"
        identifiers = [join("", [
          "arn:", data.aws_partition.here.partition, ":iam::", data.aws_caller_identity.here.account_id,
          ":oidc-provider/", var.oidc_provider,
        ])]
      }
      condition {
        test     = "StringEquals"
        variable = "${var.oidc_provider}:sub"
        values   = ["system:serviceaccount:crikpy-system:${statement.value}"]
      }
      condition {
        test     = "StringEquals"
        variable = "${var.oidc_provider}:aud"
        values   = ["sts.amazonaws.com"]
      }
    }
  }
}

resource "aws_iam_role" "pods" {
  for_each           = local.service_accounts
  name_prefix        = "${each.value}-"
  assume_role_policy = data.aws_iam_policy_document.trust[each.value].json
}

resource "aws_iam_role_policy_attachment" "agent" {
  count      = local.on_eks ? 1 : 0
  role       = aws_iam_role.pods["crikpy-agent"].name
  policy_arn = aws_iam_policy.store.arn
}

resource "aws_iam_role_policy_attachment" "controller" {
  count      = local.on_eks ? 1 : 0
  role       = aws_iam_role.pods["crikpy-controller"].name
  policy_arn = aws_iam_policy.controller[0].arn
}

data "aws_iam_policy_document" "poll" {
  statement {
    sid       = "AskEC2"
    actions   = ["ec2:DescribeSpotInstanceRequests", "ec2:DescribeInstanceStatus"]
    resources = ["*"]
  }
}

resource "aws_iam_role_policy" "poll" {
  count  = local.on_eks && var.poll ? 1 : 0
  name   = "poll"
  role   = aws_iam_role.pods["crikpy-controller"].name
  policy = data.aws_iam_policy_document.poll.json
}

resource "aws_eks_pod_identity_association" "pods" {
  for_each        = local.irsa ? toset([]) : local.service_accounts
  cluster_name    = var.cluster_name
  namespace       = "crikpy-system"
  service_account = each.value
  role_arn        = aws_iam_role.pods[each.value].arn
}

output "agent_role_arn" {
  description = "For IRSA, annotation of the service account crikpy-agent"
  value       = try(aws_iam_role.pods["crikpy-agent"].arn, null)
}

output "controller_role_arn" {
  description = "For IRSA, annotation of the service account crikpy-controller"
  value       = try(aws_iam_role.pods["crikpy-controller"].arn, null)
}
