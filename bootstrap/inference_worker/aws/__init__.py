"""The worker's ports on AWS: SQS, DynamoDB, S3, Auto Scaling and the instance metadata service."""
