"""Users and policies of a MinIO server, over its admin API; for tests that have the `job` extra's minio package."""

from typing import Any

from minio import MinioAdmin
from minio.credentials import StaticProvider

from .minio_server import MinioServer


def admin(server: MinioServer) -> MinioAdmin:
    """The admin API as root."""
    return MinioAdmin(endpoint=server.endpoint, credentials=StaticProvider(server.user, server.password), secure=False)


def add_user(server: MinioServer, user: str, password: str, policy: dict[str, Any]) -> None:
    """Make a user who may do what an IAM policy document says, and nothing else."""
    as_root, name = admin(server), f"{user}-policy"
    as_root.policy_add(name, policy=policy)
    as_root.user_add(user, password)
    as_root.attach_policy([name], user=user)


def read_only(bucket: str, prefix: str = "") -> dict[str, Any]:
    """The policy document of someone who may list a bucket and read one prefix of it."""
    statement = {
        "Effect": "Allow",
        "Action": ["s3:GetObject", "s3:ListBucket", "s3:GetBucketLocation"],
        "Resource": [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/{prefix}*"],
    }
    return {"Version": "2012-10-17", "Statement": [statement]}
