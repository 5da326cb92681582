"""The native provider: Kafka, PostgreSQL and S3 as processes of this machine."""
