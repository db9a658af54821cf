"""A matrix-product load for the GPUs of this machine, in a process of its own: `python gpu_load.py SECONDS`.

PyTorch's matrix product where it is installed (CUDA or ROCm); otherwise a kernel of fused multiply-adds, given to
the CUDA driver as PTX, which needs nothing but the driver.
"""

from __future__ import annotations

import ctypes
import importlib
import sys
import time
from typing import Any

_PTX = b"""
.version 6.0
.target sm_70
.address_size 64
.visible .entry burn(.param .u64 out, .param .u32 rounds) {
  .reg .f32 %f<10>; .reg .b32 %r<8>; .reg .b64 %rd<4>; .reg .pred %p;
  ld.param.u64 %rd1, [out];
  ld.param.u32 %r1, [rounds];
  mov.u32 %r2, %ctaid.x; mov.u32 %r3, %ntid.x; mov.u32 %r4, %tid.x;
  mad.lo.s32 %r5, %r2, %r3, %r4;
  cvt.rn.f32.u32 %f1, %r5;
  mov.f32 %f2, 0f3F800347; mov.f32 %f3, 0f38D1B717;
  mov.f32 %f4, %f1; mov.f32 %f5, %f1; mov.f32 %f6, %f1; mov.f32 %f7, %f1;
  mov.u32 %r6, 0;
LOOP:
  fma.rn.f32 %f4, %f4, %f2, %f3;
  fma.rn.f32 %f5, %f5, %f2, %f3;
  fma.rn.f32 %f6, %f6, %f2, %f3;
  fma.rn.f32 %f7, %f7, %f2, %f3;
  add.u32 %r6, %r6, 1;
  setp.lt.u32 %p, %r6, %r1;
  @%p bra LOOP;
  add.f32 %f4, %f4, %f5; add.f32 %f6, %f6, %f7; add.f32 %f4, %f4, %f6;
  mul.wide.u32 %rd2, %r5, 4;
  cvta.to.global.u64 %rd3, %rd1;
  add.u64 %rd3, %rd3, %rd2;
  st.global.f32 [%rd3], %f4;
  ret;
}
"""
_BLOCKS, _THREADS, _ROUNDS = 2048, 256, 200_000


def with_torch(torch: Any, seconds: float) -> None:
    """Multiply matrices on every GPU until the time is over."""
    size = 8192
    devices = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    matrices = [torch.randn(size, size, dtype=torch.float16, device=device) for device in devices]
    end_s = time.monotonic() + seconds
    while time.monotonic() < end_s:
        for matrix in matrices:
            for _ in range(10):
                torch.matmul(matrix, matrix)
        for index in range(len(matrices)):
            torch.cuda.synchronize(index)
        _say_running()


def with_driver(seconds: float) -> None:
    """Run the kernel on every GPU until the time is over."""
    cuda = ctypes.CDLL("libcuda.so.1")

    def call(name: str, *arguments: object) -> None:
        status = getattr(cuda, name)(*arguments)
        if status:
            sys.exit(f"{name} failed with CUDA error {status}")

    call("cuInit", 0)
    count = ctypes.c_int()
    call("cuDeviceGetCount", ctypes.byref(count))
    launches: list[tuple[ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint64]] = []
    for index in range(count.value):
        context, module, function, out = (
            ctypes.c_void_p(),
            ctypes.c_void_p(),
            ctypes.c_void_p(),
            ctypes.c_uint64(),
        )
        call("cuDevicePrimaryCtxRetain", ctypes.byref(context), index)
        call("cuCtxSetCurrent", context)
        call("cuModuleLoadData", ctypes.byref(module), _PTX)
        call("cuModuleGetFunction", ctypes.byref(function), module, b"burn")
        call("cuMemAlloc_v2", ctypes.byref(out), ctypes.c_size_t(4 * _BLOCKS * _THREADS))
        launches.append((context, function, out))
    rounds = ctypes.c_uint(_ROUNDS)
    end_s = time.monotonic() + seconds
    while time.monotonic() < end_s:
        for context, function, out in launches:
            call("cuCtxSetCurrent", context)
            pointers = (ctypes.c_void_p * 2)(ctypes.addressof(out), ctypes.addressof(rounds))
            call("cuLaunchKernel", function, _BLOCKS, 1, 1, _THREADS, 1, 1, 0, None, pointers, None)
        for context, _, _ in launches:
            call("cuCtxSetCurrent", context)
            call("cuCtxSynchronize")
        _say_running()


def _say_running(said: list[bool] = []) -> None:  # noqa: B006 - said once in the life of the process
    if not said:
        said.append(True)
        sys.stdout.write("running\n")
        sys.stdout.flush()


if __name__ == "__main__":
    length_s = float(sys.argv[1])
    try:
        pytorch = importlib.import_module("torch")
    except ImportError:
        pytorch = None
    if pytorch is not None and pytorch.cuda.is_available():
        with_torch(pytorch, length_s)
    else:
        with_driver(length_s)
