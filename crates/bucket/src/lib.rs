//! Buckets of S3, GCS and Azure, as the commit protocol uses them.
