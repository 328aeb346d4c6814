"""Faults of the data plane as an exit code and one line each."""

from __future__ import annotations

import socket

import pytest

from bpf import errors
from edge_lb.refusals import need_interface, translated
from gslb.service.lifecycle import ExitCode, Refused


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (errors.LibbpfMissingError("no libbpf.so.1", mend="install libbpf1"), ExitCode.NO_LIBBPF),
        (errors.NotPermittedError("bpf()", mend="run as root"), ExitCode.NOT_ROOT),
        (errors.NoBpffsError("no bpffs", mend="mount it"), ExitCode.NO_BPFFS),
        (errors.KernelTooOldError("bpf_link", mend="Linux 5.15"), ExitCode.KERNEL),
        (errors.VerifierRefusedError("refused", log="0: r1\n1: bad\n"), ExitCode.KERNEL),
        (errors.InterfaceMissingError("no eth9"), ExitCode.INTERFACE),
        (errors.InterfaceBusyError("eth0 is taken"), ExitCode.INTERFACE),
        (errors.NativeXdpUnsupportedError("the driver cannot"), ExitCode.INTERFACE),
        (errors.LayoutMismatchError("vips", "field index differs"), ExitCode.FAILED),
    ],
)
def test_every_fault_has_its_exit_code_and_one_line(fault: errors.BpfError, code: ExitCode):
    with pytest.raises(Refused) as refused, translated():
        raise fault

    assert refused.value.code is code
    assert fault.reason in refused.value.message
    assert "\n" not in refused.value.message


def test_missing_interface_names_those_that_exist():
    with pytest.raises(Refused, match=r"there are: .*lo") as refused:
        need_interface("eth999", "$.edge.interface")

    assert refused.value.code is ExitCode.INTERFACE
    assert "$.edge.interface" in refused.value.message


def test_interface_that_exists_is_accepted():
    name = socket.if_nameindex()[0][1]

    need_interface(name, "$.edge.interface")

    assert name
