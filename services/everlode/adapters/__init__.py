"""The only modules that import clients of Kafka, PostgreSQL and S3; they translate errors once."""
