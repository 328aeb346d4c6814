"""Structures that libbpf and the kernel read: the ctypes half of libbpf.py, which alone uses them.

Owns the declarations that no BTF can give, because they are the interface's own. Each is as
libbpf.h, bpf.h or linux/bpf.h has it, and carries its size where the interface wants it, so that
libbpf and the kernel accept older and newer callers.
"""

import ctypes

NAME_BYTES = 16  # BPF_OBJ_NAME_LEN
U32, U64, SIZE, POINTER = ctypes.c_uint32, ctypes.c_uint64, ctypes.c_size_t, ctypes.c_void_p


def _words(names: str) -> tuple[tuple[str, type[ctypes.c_uint32]], ...]:
    return tuple((name, U32) for name in names.split())


class OpenOptions(ctypes.Structure):
    """struct bpf_object_open_opts."""

    _fields_ = (
        ("sz", SIZE),
        ("object_name", ctypes.c_char_p),
        ("relaxed_maps", ctypes.c_bool),
        ("pin_root_path", ctypes.c_char_p),
        ("removed", U32),
        ("kconfig", ctypes.c_char_p),
        ("btf_custom_path", ctypes.c_char_p),
        ("kernel_log_buf", POINTER),
        ("kernel_log_size", SIZE),
        ("kernel_log_level", U32),
    )


class MapOptions(ctypes.Structure):
    """struct bpf_map_create_opts."""

    _fields_ = (
        ("sz", SIZE),
        *_words("btf_fd btf_key_type_id btf_value_type_id btf_vmlinux_value_type_id"),
        *_words("inner_map_fd map_flags"),
        ("map_extra", U64),
        *_words("numa_node map_ifindex"),
    )


class LinkOptions(ctypes.Structure):
    """struct bpf_link_create_opts."""

    _fields_ = (("sz", SIZE), ("flags", U32), ("iter_info", POINTER), *_words("info_len btf_id"))


class TestOptions(ctypes.Structure):
    """struct bpf_test_run_opts."""

    _fields_ = (
        ("sz", SIZE),
        ("data_in", POINTER),
        ("data_out", POINTER),
        *_words("data_size_in data_size_out"),
        ("ctx_in", POINTER),
        ("ctx_out", POINTER),
        *_words("ctx_size_in ctx_size_out retval repeat duration flags cpu batch_size"),
    )


class XdpContext(ctypes.Structure):
    """struct xdp_md."""

    _fields_ = _words("data data_end data_meta ingress_ifindex rx_queue_index egress_ifindex")


class KernelMapInfo(ctypes.Structure):
    """struct bpf_map_info."""

    _fields_ = (
        *_words("type id key_size value_size max_entries map_flags"),
        ("name", ctypes.c_char * NAME_BYTES),
        *_words("ifindex btf_vmlinux_value_type_id"),
        ("netns_dev", U64),
        ("netns_ino", U64),
        *_words("btf_id btf_key_type_id btf_value_type_id pad"),
        ("map_extra", U64),
    )


class BtfInfo(ctypes.Structure):
    """struct bpf_btf_info."""

    _fields_ = (("btf", U64), *_words("btf_size id"), ("name", U64), *_words("name_len kernel_btf"))


class LinkInfo(ctypes.Structure):
    """struct bpf_link_info, as far as XDP fills it."""

    _fields_ = (*_words("type id prog_id pad ifindex"), ("rest", ctypes.c_uint8 * 60))
