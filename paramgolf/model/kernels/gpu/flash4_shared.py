"""FlashAttention-4's backward kernel with the query heads that share a key head in one block (version 4.0.0b36).

Keys and values are loaded once and their gradients, added up over the heads in registers, written once. A head's
channels lie beside those of the others, (T, K, groups · E), its statistics and sums behind theirs. A block's run over
tiles of queries is repeated for each head; the mask is told the tile within its head.

`load` and `dQaccum_store` follow the library's, BSD-3-Clause, Tri Dao and others.
"""

# mypy: ignore-errors

from dataclasses import dataclass

import cutlass
from cutlass import Int32, const_expr, cute
from flash_attn.cute.block_info import BlockInfo
from flash_attn.cute.flash_bwd_sm90 import FlashAttentionBackwardSm90
from flash_attn.cute.mask import AttentionMask
from flash_attn.cute.named_barrier import NamedBarrierBwd
from quack import copy_utils


@dataclass(frozen=True)
class RepeatedTiles(BlockInfo):
    """The tiles of queries that see a tile of keys, once for each of `groups` heads."""

    groups: cutlass.Constexpr[int] = 1

    def get_m_block_min_max(self, seqlen_info, n_block):
        """First and end."""
        first, end = BlockInfo.get_m_block_min_max(self, seqlen_info, n_block)
        return first, first + self.groups * (end - first)


@dataclass(frozen=True)
class RepeatedMask(AttentionMask):
    """The mask of a document for repeated tiles."""

    tiles: BlockInfo | None = None
    groups: cutlass.Constexpr[int] = 1

    def apply_mask(self, scores, *, m_block, n_block, **rest):
        """Of the tile within its head."""
        first, end = BlockInfo.get_m_block_min_max(self.tiles, self.seqlen_info, n_block)
        place = m_block
        for group in range(1, self.groups):
            place = place - (end - first) * Int32(m_block >= first + group * (end - first))
        AttentionMask.apply_mask(self, scores, m_block=place, n_block=n_block, **rest)


class HeadsTogether(FlashAttentionBackwardSm90):
    """The library's kernel, changed as this module says."""

    groups = 1

    def mma(self, *given, is_dQ_wg):
        """The library's, over repeated tiles."""
        tiles = RepeatedTiles(**vars(given[26]), groups=self.groups)

        def mask(seqlen):
            made = given[28](seqlen)
            return RepeatedMask(**vars(made), tiles=given[26], groups=self.groups)

        changed = (*given[:26], tiles, given[27], mask, *given[29:])
        FlashAttentionBackwardSm90.mma(self, *changed, is_dQ_wg=is_dQ_wg)

    @cute.jit
    def load(  # noqa: PLR0913
        self, mQ, mK, mV, mdO, mLSE, mdPsum, sQ, sK, sV, sdO, sLSE, sdPsum, tma_atom_Q, tma_atom_K, tma_atom_V,
        tma_atom_dO, pipeline_Q, pipeline_dO, block_info, SeqlenInfoCls, TileSchedulerCls, blocksparse_tensors=None,
        qhead_per_kvhead_divmod=None,
    ):  # fmt: skip
        """The library's, for one head after the other."""
        state = cutlass.pipeline.make_pipeline_state(cutlass.pipeline.PipelineUserType.Producer, self.Q_stage)
        scheduler = TileSchedulerCls()
        work = scheduler.initial_work_tile_info()
        tile, one = (self.tile_m, self.tile_hdim), cute.make_layout(1)
        shift = mLSE.shape[0] // (self.groups * self.tile_m)
        while work.is_valid_tile:
            n_block, head, batch, _ = work.tile_idx
            seqlen = SeqlenInfoCls(batch)
            mK_cur = seqlen.offset_batch_K(mK, batch, dim=3)[None, None, head]
            mV_cur = seqlen.offset_batch_K(mV, batch, dim=3)[None, None, head]
            gK = cute.local_tile(mK_cur, (self.tile_n, self.tile_hdim), (n_block, 0))
            gV = cute.local_tile(mV_cur, (self.tile_n, self.tile_hdim), (n_block, 0))
            mQ_cur = seqlen.offset_batch_Q(mQ, batch, dim=3)[None, None, head]
            mdO_cur = seqlen.offset_batch_Q(mdO, batch, dim=3)[None, None, head]
            mLSE_cur = seqlen.offset_batch_Q(mLSE, batch, dim=2, padded=True)[None, head]
            mdPsum_cur = seqlen.offset_batch_Q(mdPsum, batch, dim=2, padded=True)[None, head]
            gLSE = cute.local_tile(mLSE_cur, (self.tile_m,), (None,))
            gdPsum = cute.local_tile(mdPsum_cur, (self.tile_m,), (None,))
            load_K, _, _ = copy_utils.tma_get_copy_fn(tma_atom_K, 0, one, gK, sK, single_stage=True)
            load_V, _, _ = copy_utils.tma_get_copy_fn(tma_atom_V, 0, one, gV, sV, single_stage=True)
            load_LSE = copy_utils.tma_producer_copy_fn(copy_utils.cpasync_bulk_get_copy_fn(gLSE, sLSE), pipeline_Q)
            load_dPsum = copy_utils.tma_producer_copy_fn(
                copy_utils.cpasync_bulk_get_copy_fn(gdPsum, sdPsum), pipeline_dO
            )
            first, end = block_info.get_m_block_min_max(seqlen, n_block)
            if first < end:
                for group in cutlass.range_constexpr(self.groups):
                    gQ = cute.local_tile(mQ_cur, tile, (None, group))
                    gdO = cute.local_tile(mdO_cur, tile, (None, group))
                    load_Q, _, _ = copy_utils.tma_get_copy_fn(tma_atom_Q, 0, one, gQ, sQ)
                    load_Q = copy_utils.tma_producer_copy_fn(load_Q, pipeline_Q)
                    load_dO, _, _ = copy_utils.tma_get_copy_fn(tma_atom_dO, 0, one, gdO, sdO)
                    load_dO = copy_utils.tma_producer_copy_fn(load_dO, pipeline_dO)
                    begin = first
                    if const_expr(group == 0):
                        begin = first + 1
                        pipeline_Q.producer_acquire(state, extra_tx_count=self.tma_copy_bytes["K"])
                        load_K(tma_bar_ptr=pipeline_Q.producer_get_barrier(state))
                        load_Q(first, producer_state=state)
                        cute.arch.griddepcontrol_wait()
                        load_LSE(first, producer_state=state)
                        pipeline_dO.producer_acquire(state, extra_tx_count=self.tma_copy_bytes["V"])
                        load_V(tma_bar_ptr=pipeline_dO.producer_get_barrier(state))
                        load_dO(first, producer_state=state)
                        load_dPsum(first, producer_state=state)
                        state.advance()
                    for m_block in cutlass.range(begin, end, unroll=1):
                        pipeline_Q.producer_acquire(state)
                        load_Q(m_block, producer_state=state)
                        load_LSE(m_block + group * shift, producer_state=state)
                        pipeline_dO.producer_acquire(state)
                        load_dO(m_block, producer_state=state)
                        load_dPsum(m_block + group * shift, producer_state=state)
                        state.advance()
            scheduler.advance_to_next_work()
            work = scheduler.get_current_work()

    @cute.jit
    def dQaccum_store(
        self, mdQaccum, sdQaccum, block_info, TileSchedulerCls, SeqlenInfoCls, blocksparse_tensors=None,
        mdQ_semaphore=None,
    ):  # fmt: skip
        """The library's, for one head after the other."""
        scheduler = TileSchedulerCls()
        work = scheduler.initial_work_tile_info()
        numbers = self.tile_m * self.tile_hdim
        layout = cute.make_layout((numbers // self.num_wg_dQ, self.num_wg_dQ))
        shift = mdQaccum.shape[0] // (self.groups * numbers)
        while work.is_valid_tile:
            n_block, head, batch, _ = work.tile_idx
            seqlen = SeqlenInfoCls(batch)
            mdQ_cur = cute.domain_offset((seqlen.padded_offset_q * self.tile_hdim,), mdQaccum[None, head])
            gdQaccum = cute.local_tile(mdQ_cur, (layout,), (None,))
            first, end = block_info.get_m_block_min_max(seqlen, n_block)
            for group in cutlass.range_constexpr(self.groups):
                for m_block in cutlass.range(first, end, unroll=1):
                    for wg in cutlass.range_constexpr(self.num_wg_dQ):
                        cute.arch.cp_async_bulk_wait_group(self.num_wg_dQ - 1 - wg, read=True)
                        cute.arch.barrier_arrive(
                            barrier_id=int(NamedBarrierBwd.dQEmptyWG0) + wg,
                            number_of_threads=self.num_threads_per_warp_group + cute.arch.WARP_SIZE,
                        )
                    for wg in cutlass.range_constexpr(self.num_wg_dQ):
                        cute.arch.barrier(
                            barrier_id=int(NamedBarrierBwd.dQFullWG0) + wg,
                            number_of_threads=self.num_threads_per_warp_group + cute.arch.WARP_SIZE,
                        )
                        with cute.arch.elect_one():
                            copy_utils.cpasync_reduce_bulk_add_f32(
                                sdQaccum[None, wg].iterator,
                                gdQaccum[(None, wg), m_block + group * shift].iterator,
                                self.tma_copy_bytes["dQ"],
                            )
                        cute.arch.cp_async_bulk_commit_group()
            scheduler.advance_to_next_work()
            work = scheduler.get_current_work()
        cute.arch.cp_async_bulk_wait_group(0, read=True)
