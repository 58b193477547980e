"""Network blocks, by name."""

from collections.abc import Mapping

from fuseproof.workloads.blocks.base import NetworkBlock
from fuseproof.workloads.blocks.conformer_block import ConformerBlock
from fuseproof.workloads.blocks.conv_residual import ConvResidual
from fuseproof.workloads.blocks.decode import Decode
from fuseproof.workloads.blocks.decoder_block import DecoderBlock
from fuseproof.workloads.blocks.dlrm import DLRM
from fuseproof.workloads.blocks.encoder_block import EncoderBlock
from fuseproof.workloads.blocks.lstm import LSTM
from fuseproof.workloads.blocks.mlp_block import MLPBlock
from fuseproof.workloads.blocks.unet_block import UNetBlock

__all__ = ["BLOCKS", "NetworkBlock"]

BLOCKS: Mapping[str, type[NetworkBlock]] = {
    block.name: block
    for block in (
        *(MLPBlock, EncoderBlock, DecoderBlock, ConvResidual, UNetBlock),
        *(LSTM, DLRM, ConformerBlock, Decode),
    )
}
