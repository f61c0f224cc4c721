"""Sending gives a frame away; a frame that cannot arrive is closed."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from rave_trio.pipeline.channels import FrameChannel


async def test_frames_arrive_in_order_and_are_counted(rig):
    channel = FrameChannel("decoded", 3)
    for i in range(3):
        await channel.send(rig.frame(i))

    assert (channel.name, channel.capacity) == ("decoded", 3)
    assert (channel.sent, channel.received, channel.depth, channel.peak) == (3, 0, 3, 3)
    for i in range(3):
        frame = await channel.receive()
        assert frame.index == i
        frame.close()
    assert (channel.sent, channel.received, channel.depth, channel.peak) == (3, 3, 0, 3)


async def test_a_channel_ends_after_its_last_frame(rig):
    channel = FrameChannel("decoded", 1)
    await channel.send(rig.frame(0))
    channel.finish_sending()

    (await channel.receive()).close()
    assert await channel.receive() is None
    assert await channel.receive() is None
    assert channel.received == 1


async def test_a_waiting_receiver_is_told_of_the_end():
    channel = FrameChannel("decoded", 1)

    async with trio.open_nursery() as nursery:

        async def receiver():
            assert await channel.receive() is None

        nursery.start_soon(receiver)
        await trio.testing.wait_all_tasks_blocked()
        channel.finish_sending()


async def test_a_full_channel_makes_the_sender_wait(rig):
    channel = FrameChannel("decoded", 1)
    sent = []

    async def sender():
        for i in range(2):
            await channel.send(rig.frame(i))
            sent.append(i)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(sender)
        await trio.testing.wait_all_tasks_blocked()
        assert sent == [0]
        assert channel.depth == 1
        (await channel.receive()).close()
        await trio.testing.wait_all_tasks_blocked()
        assert sent == [0, 1]
        (await channel.receive()).close()

    assert channel.peak == 1


async def test_the_peak_counts_a_frame_that_was_taken_at_once(rig):
    """Whichever of the two tasks Trio lets run first after the hand-over."""
    for _ in range(20):
        channel = FrameChannel("decoded", 1)
        ready = trio.Event()

        async def receiver(channel=channel, ready=ready):
            await ready.wait()
            (await channel.receive()).close()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(receiver)
            await trio.testing.wait_all_tasks_blocked()
            ready.set()
            await channel.send(rig.frame(0))

        assert channel.peak == 1


async def test_a_cancelled_send_closes_its_frame(rig):
    channel = FrameChannel("decoded", 1)
    await channel.send(rig.frame(0))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(channel.send, rig.frame(1))
        await trio.testing.wait_all_tasks_blocked()
        assert rig.alive == 2
        nursery.cancel_scope.cancel()

    assert rig.alive == 1
    assert channel.sent == 1
    channel.finish_receiving()


@pytest.mark.parametrize("broken_by", ["finish_sending", "finish_receiving"])
async def test_a_frame_sent_into_a_finished_channel_is_closed(rig, broken_by):
    channel = FrameChannel("decoded", 1)
    getattr(channel, broken_by)()

    with pytest.raises((trio.ClosedResourceError, trio.BrokenResourceError)):
        await channel.send(rig.frame(0))

    assert rig.alive == 0
    assert channel.sent == 0


async def test_frames_that_nobody_takes_are_closed(rig):
    channel = FrameChannel("decoded", 2)
    for i in range(2):
        await channel.send(rig.frame(i))

    channel.finish_receiving()

    assert rig.alive == 0
    assert channel.received == 0


async def test_a_waiting_sender_s_frame_is_closed_too_when_nobody_takes_it(rig):
    channel = FrameChannel("decoded", 1)

    async def sender():
        for i in range(2):
            await channel.send(rig.frame(i))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(sender)
        await trio.testing.wait_all_tasks_blocked()
        channel.finish_receiving()
        assert rig.alive == 0


async def test_finishing_twice_is_harmless(rig):
    channel = FrameChannel("decoded", 1)
    await channel.send(rig.frame(0))
    for _ in range(2):
        channel.finish_sending()
        channel.finish_receiving()
    assert rig.alive == 0


async def test_a_worker_takes_what_waits_and_lets_the_sender_go_on(rig):
    channel = FrameChannel("decoded", 1)
    soon = trio.lowlevel.current_trio_token().run_sync_soon

    async with trio.open_nursery() as nursery:

        async def sender():
            for i in range(3):
                await channel.send(rig.frame(i))

        nursery.start_soon(sender)
        for i in range(3):
            await trio.testing.wait_all_tasks_blocked()
            assert channel.depth == 1
            frame = await trio.to_thread.run_sync(channel.take, soon)
            assert frame.index == i
            frame.close()

    assert (channel.sent, channel.received, channel.depth, channel.peak) == (3, 3, 0, 1)
    assert channel.take(soon) is None


async def test_a_worker_gives_what_there_is_room_for_and_wakes_the_receiver(rig):
    channel = FrameChannel("decoded", 1)
    soon = trio.lowlevel.current_trio_token().run_sync_soon
    received = []

    async with trio.open_nursery() as nursery:

        async def receiver():
            frame = await channel.receive()
            received.append(frame.index)
            frame.close()

        nursery.start_soon(receiver)
        await trio.testing.wait_all_tasks_blocked()
        assert await trio.to_thread.run_sync(channel.offer, rig.frame(0), soon)
        await trio.testing.wait_all_tasks_blocked()
        assert received == [0]

    assert channel.offer(rig.frame(1), soon)
    assert not _offered(channel, rig.frame(2), soon)
    channel.finish_receiving()
    assert not _offered(channel, rig.frame(3), soon)
    assert (channel.sent, channel.received, channel.peak) == (2, 1, 1)


async def test_frames_keep_their_order_whether_tasks_or_workers_move_them(rig):
    channel = FrameChannel("decoded", 2)
    soon = trio.lowlevel.current_trio_token().run_sync_soon
    total, received = 300, []

    def offer_on(first):
        """The first that there was no room for."""
        return next((i for i in range(first, total) if not _offered(channel, rig.frame(i), soon)), total)

    def take_on():
        while (frame := channel.take(soon)) is not None:
            received.append(frame.index)
            frame.close()

    async def sender():
        at = 0
        while at < total:
            at = await trio.to_thread.run_sync(offer_on, at)
            if at < total:
                await channel.send(rig.frame(at))
                at += 1
        channel.finish_sending()

    async def receiver():
        while (frame := await channel.receive()) is not None:
            received.append(frame.index)
            frame.close()
            await trio.to_thread.run_sync(take_on)

    with trio.fail_after(rig.patience):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sender)
            nursery.start_soon(receiver)

    assert received == list(range(total))
    assert (channel.sent, channel.received, channel.depth) == (total, total, 0)


def _offered(channel, frame, soon):
    offered = channel.offer(frame, soon)
    if not offered:
        frame.close()
    return offered
