/*
 * setup/template.h - the plumbing as code, for those who keep their infrastructure so.
 *
 * SHAPE   CloudFormation in JSON, and Terraform (AWS provider 5 or later) in its JSON syntax
 *         (NAME.tf.json). Both are made from the wanted state itself (setup/plumbing.h), so they are
 *         what `postern setup` makes; the account's number is the tool's to fill in. In place of the
 *         user there is a policy to attach to a role. Pure.
 * SOURCE  AWS CloudFormation Template Reference (AWS::SES, AWS::SNS, AWS::SQS, AWS::IAM); Terraform
 *         AWS provider, aws_sesv2_*, aws_sns_*, aws_sqs_*, aws_iam_policy.
 */
#ifndef SETUP_TEMPLATE_H
#define SETUP_TEMPLATE_H

#include "setup/plumbing.h"

/* What stands for the account's number in the plumbing that a template is made of. */
#define TEMPLATE_ACCOUNT_CLOUDFORMATION "${AWS::AccountId}"
#define TEMPLATE_ACCOUNT_TERRAFORM      "${data.aws_caller_identity.current.account_id}"

/* Appends the document, with line breaks and a newline at its end. */
void template_put_cloudformation(struct buf *to, const struct plumbing *p);
void template_put_terraform(struct buf *to, const struct plumbing *p);

#endif
