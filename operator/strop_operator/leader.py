"""Leader election by a Lease. Who holds it acts; who cannot renew it in time ends at once."""

import asyncio
import logging
import os
import time
from datetime import UTC, datetime

from strop_operator import paths
from strop_operator.client import ApiError, Client, Json

log = logging.getLogger(__name__)

NAME = "strop-operator"
LEASE_SECONDS = 15
RENEW_DEADLINE_SECONDS = 10.0
RETRY_SECONDS = 2.0


class Leader:
    """Holds, or wants to hold, the Lease. Expiry is measured on the own clock, since the record last changed."""

    def __init__(self, client: Client, namespace: str, identity: str) -> None:
        self._client, self._identity = client, identity
        self._collection = paths.leases(namespace)
        self._path = f"{self._collection}/{NAME}"
        self._namespace = namespace
        self._seen: tuple[str, float] = ("", 0.0)
        self.known = False
        """Whether the Lease could be read once: whoever has the rights and a way to the API server can stand by."""

    async def acquire(self) -> None:
        """Wait until the Lease is ours."""
        while True:
            try:
                if await self._try():
                    log.info("holding Lease %s/%s as %s", self._namespace, NAME, self._identity)
                    return
            except Exception as error:  # whatever it is, the Lease is not ours
                log.warning("Lease %s/%s: %s", self._namespace, NAME, error)
            await asyncio.sleep(RETRY_SECONDS)

    async def take_over(self, seconds: int) -> None:
        """Have the Lease for so long, whoever holds it, and wait until the former holder has ended: it finds out when
        it renews, and acts no more after its deadline. Raises ApiError, ConnectionError or TimeoutError."""
        try:
            lease: Json | None = await self._client.get(self._path)
        except ApiError as error:
            if error.status != 404:
                raise
            lease = None
        former = lease is not None and bool(lease["spec"].get("holderIdentity"))
        if not await self._write(lease, seconds):
            await self.take_over(seconds)
        elif former:
            await asyncio.sleep(RENEW_DEADLINE_SECONDS + 2 * RETRY_SECONDS)

    async def keep(self) -> None:
        """Renew for ever; at the deadline the process ends without another word, for another may act soon."""
        renewed = time.monotonic()
        while True:
            await asyncio.sleep(RETRY_SECONDS)
            left = RENEW_DEADLINE_SECONDS - (time.monotonic() - renewed)
            try:
                async with asyncio.timeout(max(left, 0.1)):
                    if await self._try():
                        renewed = time.monotonic()
                        continue
            except Exception as error:  # whatever it is, the Lease is not renewed
                log.warning("Lease %s/%s is not renewed: %s", self._namespace, NAME, error)
            if time.monotonic() - renewed >= RENEW_DEADLINE_SECONDS:
                log.critical("Lease %s/%s is lost: ending", self._namespace, NAME)
                os._exit(1)

    async def release(self) -> None:
        """Let the next one in without waiting, after all work has ended."""
        try:
            lease = await self._client.get(self._path)
            if lease["spec"].get("holderIdentity") == self._identity:
                lease["spec"] |= {"holderIdentity": "", "leaseDurationSeconds": 1}
                await self._client.put(self._path, lease)
        except (ApiError, OSError, TimeoutError) as error:
            log.warning("Lease %s/%s is not released: %s", self._namespace, NAME, error)

    async def _try(self) -> bool:
        """Take or renew the Lease if it is free, expired or ours. A race ends in 409 for all but one."""
        try:
            lease = await self._client.get(self._path)
        except ApiError as error:
            if error.status != 404:
                raise
            self.known = True
            return await self._write(None)
        self.known = True
        spec = lease["spec"]
        holder, record = spec.get("holderIdentity") or "", str(spec.get("renewTime"))
        if (holder + record) != self._seen[0]:
            self._seen = holder + record, time.monotonic()
        expired = time.monotonic() - self._seen[1] > (spec.get("leaseDurationSeconds") or LEASE_SECONDS)
        if holder in ("", self._identity) or expired:
            return await self._write(lease)
        return False

    async def _write(self, lease: Json | None, seconds: int = LEASE_SECONDS) -> bool:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        before = lease["spec"] if lease is not None else {}
        ours = before.get("holderIdentity") == self._identity
        spec = {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": seconds,
            "acquireTime": before.get("acquireTime", now) if ours else now,
            "renewTime": now,
            "leaseTransitions": (before.get("leaseTransitions") or 0) + (0 if ours or lease is None else 1),
        }
        try:
            if lease is None:
                metadata = {"name": NAME, "namespace": self._namespace}
                body = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}
                await self._client.post(self._collection, body)
            else:
                await self._client.put(self._path, {**lease, "spec": spec})
        except ApiError as error:
            if error.status == 409:
                return False
            raise
        return True
