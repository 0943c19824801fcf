"""The Mosaic kernel of `kernels`: a matrix product and its epilogue on Hopper GPUs."""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu

from glowjax.nets.tiles import DEPTH, TILE

STEPS = 3  # loads in flight; four do not fit into shared memory beside the output


@functools.partial(jax.jit, static_argnums=3)  # lowered once, so that XLA sees equal calls as equal
def matmul(x: jax.Array, weight: jax.Array, extra: jax.Array, sums: bool) -> list[jax.Array]:
    """max(x·W + extra, 0) for a bias `extra: [N]`; x·W where extra > 0, else 0, for `[M, N]`.

    Args:
        x, weight: bfloat16 `[M, K]` and `[K, N]`; TILE divides M, DEPTH K, and 2·TILE N.
        extra: bfloat16.
        sums: adds to the results `[M / TILE, N]`, column sums of each tile in float32.
    """
    (m, k), n = x.shape, weight.shape[1]
    outputs = [jax.ShapeDtypeStruct((m, n), x.dtype)]
    if sums:
        outputs.append(jax.ShapeDtypeStruct((m // TILE, n), jnp.float32))
    kernel = plgpu.kernel(
        functools.partial(_in_32_bits, _kernel, k_steps=k // DEPTH),
        out_type=outputs,
        grid=(_multiprocessors(),),
        grid_names=("block",),
        num_threads=3,
        thread_name="warpgroup",
        compiler_params=plgpu.CompilerParams(lowering_semantics=plgpu.LoweringSemantics.Warpgroup),
    )
    return kernel(x, weight, extra)


def _in_32_bits(kernel, *args, **kwargs):
    """`kernel`, which counts in int32 where the rest of the program may count in int64."""
    with jax.enable_x64(False):
        kernel(*args, **kwargs)


def _kernel(x, weight, extra, out, column_sums=None, *, k_steps):
    """Persistent blocks: one warpgroup loads ahead, two compute a tile of 128×256 together."""
    masks = len(extra.shape) == 2
    scratch = {
        "x_slots": _smem((STEPS, TILE, DEPTH), x.dtype),
        "weight_slots": _smem((STEPS, DEPTH, 2 * TILE), x.dtype),
        "tile": _smem((2, TILE, TILE), out.dtype),
        "full": plgpu.Barrier(num_arrivals=2, num_barriers=STEPS),
        "empty": plgpu.Barrier(num_arrivals=2, num_barriers=STEPS),
        "masked": plgpu.Barrier(num_barriers=2),
        "turn": plgpu.Barrier(num_barriers=2),
    }

    @functools.partial(pl.run_scoped, collective_axes="warpgroup", **scratch)
    def _(x_slots, weight_slots, tile, full, empty, masked, turn):
        me, block, blocks = (
            lax.axis_index("warpgroup"),
            lax.axis_index("block"),
            lax.axis_size("block"),
        )
        columns = out.shape[1] // (2 * TILE)
        tiles = (out.shape[0] // TILE * columns - block + blocks - 1) // blocks

        def place(i):
            row, column = lax.div(block + i * blocks, columns), lax.rem(block + i * blocks, columns)
            return row, pl.ds(row * TILE, TILE), pl.ds(column * 2 * TILE, 2 * TILE)

        @pl.when(me == 2)
        def _load():
            plgpu.set_max_registers(40, action="decrease")

            def until_empty(i, _=None):
                pl.when(i >= STEPS)(lambda: plgpu.barrier_wait(empty.at[lax.rem(i, STEPS)]))

            def step(i, _):
                slot = lax.rem(i, STEPS)
                _, m, n = place(lax.div(i, k_steps))
                k = pl.ds(lax.rem(i, k_steps) * DEPTH, DEPTH)
                until_empty(i)
                plgpu.copy_gmem_to_smem(x.at[m, k], x_slots.at[slot], full.at[slot])
                plgpu.copy_gmem_to_smem(weight.at[k, n], weight_slots.at[slot], full.at[slot])

            lax.fori_loop(0, tiles * k_steps, step, None)
            # Every phase of a barrier must have been seen before it goes.
            lax.fori_loop(tiles * k_steps, tiles * k_steps + STEPS, until_empty, None)

        @pl.when(me < 2)
        def _compute():
            plgpu.set_max_registers(232, action="increase")
            mine = pl.ds(me * TILE, TILE)

            def one_tile(i, _):
                row, m, n = place(i)

                def load_mask():
                    plgpu.wait_smem_to_gmem(0, wait_read_only=True)  # the last tile has left
                    source = extra.at[m, n].at[:, mine]
                    plgpu.copy_gmem_to_smem(source, tile.at[me], masked.at[me])

                def products(sums):
                    def step(k, _):
                        slot = lax.rem(i * k_steps + k, STEPS)
                        plgpu.barrier_wait(full.at[slot])
                        plgpu.wgmma(sums, x_slots.at[slot], weight_slots.at[slot].at[:, mine])
                        if masks:
                            pl.when(k == min(1, k_steps - 1))(load_mask)
                        plgpu.wgmma_wait(0)  # one in flight was slower: slots are few
                        plgpu.barrier_arrive(empty.at[slot])

                    lax.fori_loop(0, k_steps, step, None)
                    return sums[...]

                if not masks:
                    source = extra.at[n].at[mine]
                    bias = plgpu.load(source, optimized=False)  # ty: ignore[missing-argument]
                    bias = bias.astype(jnp.float32)
                y = pl.run_scoped(products, plgpu.ACC((TILE, TILE), jnp.float32))
                if not masks:
                    y = jnp.maximum(y + lax.broadcast_in_dim(bias, y.shape, (1,)), 0)
                    plgpu.wait_smem_to_gmem(0, wait_read_only=True)  # the last tile has left
                else:
                    plgpu.barrier_wait(masked.at[me])
                    y = jnp.where(tile[me] > 0, y, 0)
                if column_sums is not None:
                    # The reduction's scratch memory is both warpgroups': they take turns.
                    plgpu.barrier_wait(turn.at[me])
                    column_sums.at[row, n].at[mine][...] = jnp.sum(y, axis=0)
                    plgpu.barrier_arrive(turn.at[1 - me])
                tile[me] = y.astype(out.dtype)
                plgpu.commit_smem()
                plgpu.copy_smem_to_gmem(tile.at[me], out.at[m, n].at[:, mine])

            if column_sums is not None:
                pl.when(me == 1)(lambda: plgpu.barrier_arrive(turn.at[0]))
            lax.fori_loop(0, tiles, one_tile, None)
            if column_sums is not None:
                pl.when(me == 0)(lambda: plgpu.barrier_wait(turn.at[0]))
            plgpu.wait_smem_to_gmem(0, wait_read_only=True)


def _smem(shape, dtype):
    swizzled = (plgpu.TilingTransform((8, DEPTH)), plgpu.SwizzleTransform(128))
    return plgpu.SMEM(shape, dtype, transforms=swizzled)


def _multiprocessors():
    return jax.devices()[0].core_count
