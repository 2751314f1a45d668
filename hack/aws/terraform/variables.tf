variable "cluster_name" {
  description = "The EKS cluster; without one there are neither roles nor a queue."
  type        = string
  default     = ""
}

variable "bucket_name" {
  description = "Name of the bucket of checkpoints."
  type        = string
}

variable "prefix" {
  description = "What CRIKPY_STORE has behind the bucket's name."
  type        = string
  default     = "crikpy"
}

variable "keep_versions_days" {
  description = "For how many days what was deleted or written over can be brought back; 0 for a bucket without versions."
  type        = number
  default     = 3
}

variable "encryption_key_arn" {
  description = "KMS key with which S3 encrypts what lies in the bucket; with keys of S3's own unless given."
  type        = string
  default     = ""
}

variable "sealing" {
  description = "Make a KMS key, alias/crikpy, with which crikpy itself seals what it stores (components/sealed-kms)."
  type        = bool
  default     = false
}

variable "autoscaling_groups" {
  description = "Groups to which a lifecycle hook is added, so that their instances wait until their pods are moved."
  type        = set(string)
  default     = []
}

variable "poll" {
  description = "Let the controller ask EC2, for CRIKPY_SOURCES_POLL_ENABLED."
  type        = bool
  default     = false
}

variable "oidc_provider" {
  description = "For IRSA, the cluster's OIDC issuer without https://; EKS Pod Identity unless given."
  type        = string
  default     = ""
}

variable "machines" {
  description = "A launch template of spot machines without Kubernetes: the job's name and command, and what is not as usual."
  type = object({
    job_name      = string
    command       = string
    version       = optional(string, "main")
    image         = optional(string, "/aws/service/debian/release/12/latest/amd64")
    instance_type = optional(string, "m7i.large")
  })
  default = null
}

variable "trial" {
  description = "Make an experiment of the Fault Injection Service that interrupts a spot instance tagged crikpy-trial=interrupt."
  type        = bool
  default     = false
}
