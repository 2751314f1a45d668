# As in store.yaml: no rule removes checkpoints by their age, and S3 refuses to remove a bucket that is not empty.

resource "aws_s3_bucket" "store" {
  bucket = var.bucket_name
}

resource "aws_s3_bucket_public_access_block" "store" {
  bucket                  = aws_s3_bucket.store.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_ownership_controls" "store" {
  bucket = aws_s3_bucket.store.id
  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "store" {
  bucket = aws_s3_bucket.store.id
  rule {
    bucket_key_enabled = var.encryption_key_arn != ""
    apply_server_side_encryption_by_default {
      sse_algorithm     = var.encryption_key_arn == "" ? "AES256" : "aws:kms"
      kms_master_key_id = var.encryption_key_arn == "" ? null : var.encryption_key_arn
    }
  }
}

resource "aws_s3_bucket_versioning" "store" {
  count  = var.keep_versions_days > 0 ? 1 : 0
  bucket = aws_s3_bucket.store.id
  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_lifecycle_configuration" "store" {
  bucket = aws_s3_bucket.store.id
  rule {
    id     = "unfinished-uploads"
    status = "Enabled"
    filter {}
    abort_incomplete_multipart_upload {
      days_after_initiation = 1
    }
  }
  dynamic "rule" {
    for_each = aws_s3_bucket_versioning.store
    content {
      id     = "old-versions"
      status = "Enabled"
      filter {}
      noncurrent_version_expiration {
        noncurrent_days = var.keep_versions_days
      }
      expiration {
        expired_object_delete_marker = true
      }
    }
  }
}

data "aws_iam_policy_document" "bucket" {
  statement {
    sid       = "NobodyWithoutTls"
    effect    = "Deny"
    actions   = ["s3:*"]
    resources = [aws_s3_bucket.store.arn, "${aws_s3_bucket.store.arn}/*"]
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

resource "aws_s3_bucket_policy" "store" {
  bucket = aws_s3_bucket.store.id
  policy = data.aws_iam_policy_document.bucket.json
}

resource "aws_kms_key" "sealing" {
  count               = var.sealing ? 1 : 0
  description         = "Wraps the data keys with which crikpy seals checkpoints"
  enable_key_rotation = true
  lifecycle {
    prevent_destroy = true # all that it has wrapped is lost with it
  }
}

resource "aws_kms_alias" "sealing" {
  count         = var.sealing ? 1 : 0
  name          = "alias/crikpy"
  target_key_id = aws_kms_key.sealing[0].key_id
}

data "aws_iam_policy_document" "store" {
  statement {
    sid       = "ReadAndWriteOneStore"
    actions   = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject"]
    resources = ["${aws_s3_bucket.store.arn}/${var.prefix}/*"]
  }
  statement {
    sid       = "ListOneStore"
    actions   = ["s3:ListBucket"]
    resources = [aws_s3_bucket.store.arn]
    condition {
      test     = "StringLike"
      variable = "s3:prefix"
      values   = ["${var.prefix}/*"]
    }
  }
  dynamic "statement" {
    for_each = var.encryption_key_arn == "" ? [] : [var.encryption_key_arn]
    content {
      sid       = "UseTheKeyOfTheBucket"
      actions   = ["kms:GenerateDataKey", "kms:Decrypt"]
      resources = [statement.value]
      condition {
        test     = "StringEquals"
        variable = "kms:ViaService"
        values   = ["s3.${data.aws_region.here.name}.${data.aws_partition.here.dns_suffix}"]
      }
    }
  }
  dynamic "statement" {
    for_each = aws_kms_key.sealing
    content {
      sid       = "SealOneStore"
      actions   = ["kms:GenerateDataKey", "kms:Decrypt"]
      resources = [statement.value.arn]
      condition {
        test     = "StringEquals"
        variable = "kms:EncryptionContext:crikpy-store"
        values   = ["s3://${aws_s3_bucket.store.id}/${var.prefix}"]
      }
      condition {
        test     = "Null"
        variable = "kms:EncryptionContext:crikpy-workload"
        values   = ["false"]
      }
      condition {
        test     = "ForAllValues:StringEquals"
        variable = "kms:EncryptionContextKeys"
        values   = ["crikpy-store", "crikpy-workload"]
      }
    }
  }
}

resource "aws_iam_policy" "store" {
  name_prefix = "crikpy-store-"
  policy      = data.aws_iam_policy_document.store.json
}

output "store" {
  description = "Value of CRIKPY_STORE"
  value       = "s3://${aws_s3_bucket.store.id}/${var.prefix}"
}

output "store_policy_arn" {
  description = "Attached to the role of the agents and of machines; for roles of your own"
  value       = aws_iam_policy.store.arn
}
