"""The machines that frames are worked on."""

from rave_trio.devices.cpu import CpuDevice, detect_cpu

__all__ = ["CpuDevice", "detect_cpu"]
