"""Run as a program: the UUIDs of the GPUs that CUDA shows, in CUDA's order, as one line of JSON.  Makes no context."""

from __future__ import annotations

import json

from rave_trio.devices.child import answering


def main() -> None:
    answers = answering()
    from cuda.bindings import driver

    def check(result: tuple[object, ...]) -> object:
        status, *values = result
        if status != driver.CUresult.CUDA_SUCCESS:
            raise SystemExit(f"CUDA: {getattr(status, 'name', status)}")
        return values[0] if values else None

    check(driver.cuInit(0))
    devices = [check(driver.cuDeviceGet(ordinal)) for ordinal in range(int(str(check(driver.cuDeviceGetCount()))))]
    uuids = [bytes(check(driver.cuDeviceGetUuid(device)).bytes)[:16].hex() for device in devices]  # type: ignore[attr-defined]
    print(json.dumps({"uuids": uuids}), json.dumps({"end": True}), sep="\n", file=answers)
    answers.flush()


if __name__ == "__main__":
    main()
