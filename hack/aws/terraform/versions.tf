# What hack/aws has for CloudFormation, as a Terraform module.
#
#   module "crikpy" {
#     source       = "github.com/crikpy/crikpy//hack/aws/terraform"
#     bucket_name  = "my-bucket"
#     cluster_name = "production"
#   }

terraform {
  required_version = ">= 1.5"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.40"
    }
  }
}

data "aws_caller_identity" "here" {}
data "aws_partition" "here" {}
data "aws_region" "here" {}
