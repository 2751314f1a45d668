# As in machines.yaml: spot machines without Kubernetes.

data "aws_iam_policy_document" "machines_trust" {
  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "Service"
      identifiers = ["ec2.amazonaws.com"]
    }
  }
}

resource "aws_iam_role" "machines" {
  count              = var.machines == null ? 0 : 1
  name_prefix        = "crikpy-machines-"
  assume_role_policy = data.aws_iam_policy_document.machines_trust.json
}

resource "aws_iam_role_policy_attachment" "machines" {
  count      = var.machines == null ? 0 : 1
  role       = aws_iam_role.machines[0].name
  policy_arn = aws_iam_policy.store.arn
}

resource "aws_iam_instance_profile" "machines" {
  count       = var.machines == null ? 0 : 1
  name_prefix = "crikpy-machines-"
  role        = aws_iam_role.machines[0].name
}

data "aws_ssm_parameter" "image" {
  count = var.machines == null ? 0 : 1
  name  = var.machines.image
}

resource "aws_launch_template" "machines" {
  count         = var.machines == null ? 0 : 1
  name          = "crikpy-${var.machines.job_name}"
  image_id      = data.aws_ssm_parameter.image[0].insecure_value
  instance_type = var.machines.instance_type
  iam_instance_profile {
    arn = aws_iam_instance_profile.machines[0].arn
  }
  instance_market_options {
    market_type = "spot"
    spot_options {
      spot_instance_type             = "one-time"
      instance_interruption_behavior = "terminate"
    }
  }
  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }
  tag_specifications {
    resource_type = "instance"
    tags          = { Name = "crikpy-${var.machines.job_name}" }
  }
  # The same script as in machines.yaml.
  user_data = base64encode(templatefile("${path.module}/user-data.sh", {
    version  = var.machines.version
    region   = data.aws_region.here.name
    job_name = var.machines.job_name
    store    = "s3://${aws_s3_bucket.store.id}/${var.prefix}"
    command  = var.machines.command
  }))
}

output "launch_template_name" {
  description = "For run-instances, or an Auto Scaling group"
  value       = try(aws_launch_template.machines[0].name, null)
}
