"""Object stores: a protocol and two stores that keep it, S3 and a folder. Nothing here knows stages or records."""
