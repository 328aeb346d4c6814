"""The map from QUIC server ids to reals.

Owns what that map holds: for each VIP that reads connection ids, the id and the seat of each of its
reals. Called by `edge_lb.datapath` when it applies a plan. Decides nothing.
"""

from __future__ import annotations

from bpf.maps import Map
from edge_lb.plan import Plan


def write_server_ids(servers: Map, plan: Plan) -> None:
    """Makes the map say what the plan says; an id that leaves is removed last."""
    indexes = {vip.name: vip.index for vip in plan.vips if vip.options.quic.server_id_bytes}
    wanted: dict[bytes, bytes] = {}
    for real in plan.reals:
        index = indexes.get(real.name.partition("/")[0])
        if index is not None and real.server_id is not None:
            key = servers.shape.key.pack(vip_index=index, server_id=real.server_id)
            wanted[key] = servers.shape.value.pack(real=real.index, epoch=real.epoch)
    for key, value in wanted.items():
        servers.put(key, value)
    for key in tuple(servers.keys()):
        if key not in wanted:
            servers.delete(key)
