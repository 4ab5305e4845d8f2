"""Bodies both ways: as they come, with backpressure, cut off, cancelled (protocol.md §5, §12, §13)."""

from __future__ import annotations

import asyncio

import pytest

from tests.host.peers import WAIT_SECONDS, Broker, Guest, Lease, Watcher, failed, running_host
from tests.support.certificates import Certificates
from verser2_guest_python.host import HostLimits, RequestRecord, VerserHost
from verser2_guest_python.http2 import ErrorCode, SessionOptions, Stream, StreamReset

MIB = 1 << 20
# What lies on the way while nobody reads: windows, buffers of sockets and TLS. Far below what is sent.
ON_THE_WAY_BYTES = 12 * MIB
BLOCK = bytes(range(256)) * 256


async def active(host: VerserHost, count: int) -> None:
    """Until so many requests are under way."""
    async with asyncio.timeout(WAIT_SECONDS):
        while host.get_stats().active_requests != count:  # noqa: ASYNC110 - the Host has no event for it
            await asyncio.sleep(0.005)


class Upload:
    """Writes blocks to a stream for as long as it takes them, at most 64 MiB."""

    def __init__(self, stream: Stream) -> None:
        self.sent = 0
        self._task = asyncio.create_task(self._write(stream))

    async def _write(self, stream: Stream) -> None:
        while self.sent < 64 * MIB:
            await stream.write(BLOCK)
            self.sent += len(BLOCK)
        await stream.write(b"", end=True)

    async def until_stuck(self) -> int:
        """How many bytes went, once none has gone for a while."""
        before = -1
        while self.sent != before:
            before = self.sent
            await asyncio.sleep(0.2)
        return before

    async def done(self) -> None:
        async with asyncio.timeout(4 * WAIT_SECONDS):
            await self._task


async def count_all(stream: Stream) -> int:
    async with asyncio.timeout(4 * WAIT_SECONDS):
        size = 0
        while chunk := await stream.read():
            size += len(chunk)
        return size


@pytest.mark.both_loops
@pytest.mark.parametrize("size", [1, 16_375, 16_376, 70_000, 5 * MIB])
async def test_bodies_pass_unchanged(certs: Certificates, size: int) -> None:
    body = (BLOCK * (size // len(BLOCK) + 1))[:size]
    async with running_host(certs) as host, Guest(host, certs) as guest, Broker(host, certs) as broker:
        lease = await guest.lease()
        stream = broker.request("POST", end=False)
        upload = asyncio.create_task(stream.write(body, end=True))
        head = await lease.request()
        assert await lease.body() == body
        download = asyncio.create_task(lease.answer(head, 200, {"content-length": str(size)}, body))
        assert (await broker.answer(stream)).body == body
        await asyncio.gather(upload, download)
        await active(host, 0)


@pytest.mark.both_loops
async def test_a_conversation_passes_piece_by_piece(certs: Certificates) -> None:
    async with running_host(certs) as host, Guest(host, certs) as guest, Broker(host, certs) as broker:
        lease = await guest.lease()
        stream = broker.request("POST", end=False)
        head = await lease.request()
        await lease.answer(head, 200, {}, end=False)
        await stream.wait_fields()
        for number in range(20):
            await stream.write(b"ping %d" % number)
            assert await lease.stream.read() == b"ping %d" % number
            await lease.stream.write(b"pong %d" % number)
            assert await stream.read() == b"pong %d" % number
        await stream.write(b"", end=True)
        assert await lease.stream.read() == b""
        await lease.stream.write(b"", end=True)
        assert await stream.read() == b""
        assert host.get_stats().active_requests == 0


@pytest.mark.both_loops
async def test_a_broker_that_does_not_read_slows_the_guest(certs: Certificates) -> None:
    async with running_host(certs) as host, Guest(host, certs) as guest, Broker(host, certs) as broker:
        lease = await guest.lease()
        stream = broker.request()
        await lease.answer(await lease.request(), 200, {}, end=False)
        upload = Upload(lease.stream)
        assert await upload.until_stuck() < ON_THE_WAY_BYTES
        # Others are not held up.
        other = await guest.lease()
        quick = broker.request()
        await other.answer(await other.request(), 200, {}, b"quick")
        assert (await broker.answer(quick)).body == b"quick"
        # Once it reads, all of it comes.
        assert await count_all(stream) == 64 * MIB
        await upload.done()


@pytest.mark.both_loops
async def test_a_guest_that_does_not_read_slows_the_broker(certs: Certificates) -> None:
    async with running_host(certs) as host, Guest(host, certs) as guest, Broker(host, certs) as broker:
        lease = await guest.lease()
        stream = broker.request("POST", end=False)
        upload = Upload(stream)
        assert await upload.until_stuck() < ON_THE_WAY_BYTES
        quick, other = broker.request(), await guest.lease()
        await other.answer(await other.request(), 200, {}, b"quick")
        assert (await broker.answer(quick)).body == b"quick"
        assert await count_all(lease.stream) > 64 * MIB  # the head as well
        await upload.done()


@pytest.mark.parametrize("direction", ["up", "down"])
async def test_a_cancel_while_a_direction_is_stuck(certs: Certificates, direction: str) -> None:
    async with running_host(certs) as host, Guest(host, certs) as guest, Broker(host, certs) as broker:
        lease = await guest.lease()
        stream = broker.request("POST", end=direction == "down")
        if direction == "up":
            upload = Upload(stream)
        else:
            await lease.answer(await lease.request(), 200, {}, end=False)
            upload = Upload(lease.stream)
        assert await upload.until_stuck() < ON_THE_WAY_BYTES
        stream.reset()
        assert await failed(lease.stream) == ErrorCode.CANCEL
        with pytest.raises(StreamReset):
            await upload.done()
        await active(host, 0)


async def test_an_upload_waits_in_its_window_while_the_request_waits_for_a_lease(certs: Certificates) -> None:
    body = BLOCK * 8
    async with running_host(certs) as host, Guest(host, certs) as guest, Broker(host, certs) as broker:
        stream = broker.request("POST", end=False)
        await stream.write(body, end=True)
        await active(host, 1)
        await broker.session.ping()
        lease = await guest.lease()
        head = await lease.request()
        assert await lease.body() == body
        await lease.answer(head)
        assert (await broker.answer(stream)).status == 200


async def test_a_broker_that_cancels_resets_the_lease(certs: Certificates) -> None:
    async with running_host(certs) as host, Guest(host, certs) as guest, Broker(host, certs) as broker:
        records: list[RequestRecord] = []
        host.on_request(records.append)
        lease = await guest.lease()
        stream = broker.request()
        await lease.request()
        stream.reset()
        assert await failed(lease.stream) == ErrorCode.CANCEL
        assert records[0].error == "cancelled"
        assert records[0].status is None
        await active(host, 0)


@pytest.mark.parametrize("code", [ErrorCode.NO_ERROR, ErrorCode.CANCEL, ErrorCode.INTERNAL_ERROR])
async def test_a_cancel_in_the_middle_of_the_answer(certs: Certificates, code: ErrorCode) -> None:
    async with running_host(certs) as host, Guest(host, certs) as guest, Broker(host, certs) as broker:
        lease = await guest.lease()
        stream = broker.request()
        await lease.answer(await lease.request(), 200, {}, b"begun", end=False)
        assert await stream.read() == b"begun"
        stream.reset(code)
        assert await failed(lease.stream) == ErrorCode.CANCEL
        await active(host, 0)


class Recorder:
    """What a Guest sees on a lease, in its order."""

    def __init__(self, lease: Lease) -> None:
        self.lease = lease
        self.seen: list[str] = []
        lease.stream.listener = self._on_event

    def _on_event(self, stream: Stream) -> None:
        if stream.take():
            self.seen.append("data")
        if stream.error is not None:
            self.seen.append("reset")
        elif stream.ended:
            self.seen.append("end")


async def test_a_cancelled_upload_never_looks_complete(certs: Certificates) -> None:
    async with running_host(certs) as host, Guest(host, certs) as guest, Broker(host, certs) as broker:
        for _ in range(20):
            lease = await guest.lease()
            recorder = Recorder(lease)
            stream = broker.request("POST", end=False)
            await stream.write(b"x" * 50_000)
            stream.reset()
            await active(host, 0)
            if host.get_stats().idle_leases:  # it was cancelled before it was sent
                lease.stream.reset()
                continue
            assert await failed(lease.stream) == ErrorCode.CANCEL
            assert "end" not in recorder.seen


async def test_a_cancel_while_the_request_waits_for_a_lease(certs: Certificates) -> None:
    async with running_host(certs) as host, Guest(host, certs) as guest, Broker(host, certs) as broker:
        stream = broker.request()
        await active(host, 1)
        stream.reset()
        await active(host, 0)
        assert host.get_stats().queued_requests == 0
        await guest.lease()
        assert host.get_stats().idle_leases == 1


async def test_a_broker_that_goes_away_cancels_its_requests(certs: Certificates) -> None:
    async with running_host(certs) as host, Guest(host, certs) as guest:
        lease = await guest.lease()
        async with Broker(host, certs) as broker:
            broker.request()
            await lease.request()
            broker.request()
            await active(host, 2)
        assert await failed(lease.stream) == ErrorCode.CANCEL
        await active(host, 0)
        assert host.get_stats().queued_requests == 0


@pytest.mark.parametrize("code", [ErrorCode.INTERNAL_ERROR, ErrorCode.CANCEL, ErrorCode.NO_ERROR])
async def test_a_guest_that_resets_in_the_middle_cuts_the_answer(
    certs: Certificates, code: ErrorCode
) -> None:
    async with running_host(certs) as host, Guest(host, certs) as guest, Broker(host, certs) as broker:
        lease = await guest.lease()
        stream = broker.request()
        await lease.answer(await lease.request(), 200, {}, b"begun", end=False)
        await stream.wait_fields()
        lease.stream.reset(code)
        assert await failed(stream) == ErrorCode.INTERNAL_ERROR
        await active(host, 0)


@pytest.mark.parametrize("ending", ["reset", "end", "part"])
async def test_a_guest_that_gives_up_before_its_answer(certs: Certificates, ending: str) -> None:
    async with running_host(certs) as host, Guest(host, certs) as guest, Broker(host, certs) as broker:
        lease = await guest.lease()
        stream = broker.request()
        await lease.request()
        if ending == "reset":
            lease.stream.reset(ErrorCode.INTERNAL_ERROR)
        else:
            await lease.stream.write(b"\x01\x02\x00" if ending == "part" else b"", end=True)
        answer = await broker.answer(stream)
        assert answer.error["code"] == "stream-failure"
        assert answer.error["context"]["stage"] == "sent"
        await active(host, 0)


async def test_a_guest_that_goes_away(certs: Certificates) -> None:
    async with running_host(certs) as host, Broker(host, certs) as broker:
        async with Guest(host, certs) as guest:
            begun, sent = await guest.lease(), await guest.lease()
            first = broker.request()
            await begun.answer(await begun.request(), 200, {"content-length": "10"}, b"begun", end=False)
            await first.wait_fields()
            second = broker.request("POST", end=False)
            await second.write(b"part of the upload")
            await sent.request()
            third = broker.request()
            await active(host, 3)
        assert await failed(first) == ErrorCode.INTERNAL_ERROR
        answer = await broker.answer(second)
        assert answer.error["code"] == "disconnected-target"
        assert answer.error["context"]["stage"] == "sent"
        answer = await broker.answer(third)
        assert answer.error["code"] == "disconnected-target"
        assert answer.error["context"]["stage"] == "queued"
        assert answer.error["context"]["targetId"] == "guest-a"
        await active(host, 0)


@pytest.mark.parametrize(("announced", "sent"), [(10, 4), (10, 11), (3, 70_000)])
@pytest.mark.parametrize("in_one_piece", [True, False])
async def test_an_app_is_held_to_its_content_length(
    certs: Certificates, announced: int, sent: int, in_one_piece: bool
) -> None:
    async with running_host(certs) as host, Guest(host, certs) as guest, Broker(host, certs) as broker:
        lease = await guest.lease()
        stream = broker.request()
        head = await lease.request()
        headers = {"content-length": str(announced)}
        if in_one_piece:
            await lease.answer(head, 200, headers, b"x" * sent)
            answer = await broker.answer(stream)
            assert answer.error["code"] == "stream-failure"
        else:
            await lease.answer(head, 200, headers, end=False)
            await stream.wait_fields()
            await lease.stream.write(b"x" * sent, end=True)
            assert await failed(stream) == ErrorCode.INTERNAL_ERROR
        await active(host, 0)


async def test_an_answer_before_the_end_of_the_upload(certs: Certificates) -> None:
    """The rest of the upload may pass for a moment, and no stream has to be reset for it."""
    async with running_host(certs) as host, Guest(host, certs) as guest, Broker(host, certs) as broker:
        lease = await guest.lease()
        stream = broker.request("POST", end=False)
        await stream.write(b"first part,")
        await lease.answer(await lease.request(), 413, {}, b"enough")
        assert (await broker.answer(stream)).body == b"enough"
        await stream.write(b" last part", end=True)
        assert await lease.body() == b"first part, last part"
        assert stream.error is None
        assert lease.stream.error is None
        await active(host, 0)


async def test_an_upload_without_end_is_stopped_after_the_answer(certs: Certificates) -> None:
    limits = HostLimits(linger_seconds=0.05)
    async with (
        running_host(certs, limits=limits) as host,
        Guest(host, certs) as guest,
        Broker(host, certs) as broker,
    ):
        lease = await guest.lease()
        stream = broker.request("POST", end=False)
        await stream.write(b"first part,")
        await lease.answer(await lease.request(), 413, {}, b"enough")
        assert (await broker.answer(stream)).body == b"enough"
        assert await failed(lease.stream) == ErrorCode.CANCEL
        with pytest.raises(StreamReset):
            await Upload(stream).done()
        assert stream.error is None  # the answer stays valid (protocol.md §7)
        await active(host, 0)


async def test_an_error_during_an_upload_stops_the_upload(certs: Certificates) -> None:
    async with running_host(certs) as host, Guest(host, certs) as guest, Broker(host, certs) as broker:
        lease = await guest.lease()
        stream = broker.request("POST", end=False)
        await stream.write(b"first part")
        await lease.fail(await lease.request(), "local-handler-failure", "boom", {})
        answer = await broker.answer(stream)
        assert answer.error["code"] == "local-handler-failure"
        assert await failed(lease.stream) == ErrorCode.CANCEL
        refused = broker.request("POST", target="nobody", end=False)
        await refused.write(b"x" * 100)
        assert (await broker.answer(refused)).error["code"] == "missing-guest"
        await active(host, 0)


@pytest.mark.both_loops
async def test_small_windows_carry_everything(certs: Certificates) -> None:
    """65,535 bytes a stream and a connection, as deployed peers have them (protocol.md §12.6)."""
    small = SessionOptions(stream_window_bytes=65_535, connection_window_bytes=65_535)
    body = BLOCK * 32
    async with (
        running_host(certs, session_options=small) as host,
        Guest(host, certs, options=small) as guest,
        Broker(host, certs, options=small) as broker,
    ):

        async def serve(lease: Lease) -> None:
            head = await lease.request()
            await lease.answer(head, 200, {"x-path": head.path}, await lease.body())

        async def call(number: int) -> None:
            answer = await broker.fetch("POST", f"/{number}", body=body)
            assert answer.body == body
            assert answer.get("x-path") is not None

        leases = [await guest.lease() for _ in range(8)]
        await asyncio.gather(*map(serve, leases), *map(call, range(8)))


async def test_many_aborted_requests_leave_nothing_behind(certs: Certificates) -> None:
    async with running_host(certs) as host, Guest(host, certs) as guest, Broker(host, certs) as broker:
        watcher = Watcher(host)
        for number in range(300):
            lease = await guest.lease()
            stream = broker.request("POST", end=number % 2 == 0)
            head = await lease.request()
            if number % 3 == 0:
                stream.reset()
            elif number % 3 == 1:
                lease.stream.reset(ErrorCode.INTERNAL_ERROR)
                assert (await broker.answer(stream)).status == 502
            else:
                await lease.answer(head, 200, {}, b"begun", end=False)
                stream.reset()
        await active(host, 0)
        await guest.session.ping()
        await broker.session.ping()
        assert guest.session.open_streams == 0
        assert broker.session.open_streams == 1  # the control stream
        assert watcher.find("internal-error") is None
        stats = host.get_stats()
        assert (stats.idle_leases, stats.queued_requests, stats.sessions) == (0, 0, 2)
