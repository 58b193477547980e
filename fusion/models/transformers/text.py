"""Models of text: fuseproof.workloads.models.text. Dropout is 0, and nothing is cached for a next call."""

from __future__ import annotations

from typing import Any

from torch import nn

from fuseproof.fusion.models.transformers.parts import OfStates, OfText, OfTextTwice, library

_WORDS = 1024  # of a small model, as in fuseproof.workloads.models.base


def bert(*, length: int, base: bool) -> nn.Module:
    return OfText(bert_model(length=length, base=base))


def bert_model(*, length: int, base: bool) -> nn.Module:
    """The library's model itself."""
    transformers = library()
    small = {
        **{"vocab_size": _WORDS, "hidden_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4},
        **{"intermediate_size": 1024, "max_position_embeddings": length},
    }
    config = transformers.BertConfig(
        **({} if base else small), hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0
    )
    return transformers.BertForMaskedLM(config)


def distilbert(*, length: int, base: bool) -> nn.Module:
    transformers = library()
    small = {
        **{"vocab_size": _WORDS, "dim": 256, "n_layers": 2, "n_heads": 4, "hidden_dim": 1024},
        "max_position_embeddings": length,
    }
    config = transformers.DistilBertConfig(**({} if base else small), dropout=0.0, attention_dropout=0.0)
    return OfText(transformers.DistilBertForMaskedLM(config))


def gpt2(*, length: int, base: bool) -> nn.Module:
    transformers = library()
    small = {"vocab_size": _WORDS, "n_embd": 256, "n_layer": 2, "n_head": 4, "n_positions": length}
    config = transformers.GPT2Config(
        **({} if base else small), resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, **_SERVED_ONCE
    )
    return OfText(transformers.GPT2LMHeadModel(config), shifted=True)


def llama(*, base: bool) -> nn.Module:
    """base: the widths of SmolLM-135M."""
    transformers = library()
    sizes = _grouped(49152, 576, 30, 9, 3, 1536) if base else _grouped(_WORDS, 256, 2, 4, 2, 688)
    config = transformers.LlamaConfig(**sizes, tie_word_embeddings=base, **_SERVED_ONCE)
    return OfText(transformers.LlamaForCausalLM(config), shifted=True)


def qwen3(*, base: bool) -> nn.Module:
    """base: the widths of Qwen3-0.6B, with 8 of its 28 layers and a smaller vocabulary."""
    transformers = library()
    sizes = _grouped(32768, 1024, 8, 16, 8, 3072) if base else _grouped(_WORDS, 256, 2, 4, 2, 688)
    config = transformers.Qwen3Config(
        **sizes, head_dim=128 if base else 64, tie_word_embeddings=base, **_SERVED_ONCE
    )
    return OfText(transformers.Qwen3ForCausalLM(config), shifted=True)


def mamba2(*, base: bool) -> nn.Module:
    """base: the widths of Mamba2-130M."""
    transformers = library()
    small = {
        **{"vocab_size": _WORDS, "hidden_size": 256, "num_hidden_layers": 2, "num_heads": 8},
        **{"head_dim": 64, "state_size": 64, "n_groups": 1, "chunk_size": 32},
    }
    larger = {
        **{"vocab_size": 50288, "hidden_size": 768, "num_hidden_layers": 24, "num_heads": 24},
        **{"head_dim": 64, "state_size": 128, "n_groups": 1},
    }
    config = transformers.Mamba2Config(**(larger if base else small), **_SERVED_ONCE)
    return OfStates(transformers.Mamba2ForCausalLM(config), shifted=True)


def t5(*, base: bool) -> nn.Module:
    """The gated GELU of T5 1.1: a rounding error flips the gradient of a ReLU at its kink."""
    transformers = library()
    small = {
        **{"vocab_size": _WORDS, "d_model": 256, "d_kv": 64, "d_ff": 512, "num_layers": 2},
        **{"num_decoder_layers": 2, "num_heads": 4},
    }
    config = transformers.T5Config(
        **({} if base else small), dropout_rate=0.0, feed_forward_proj="gated-gelu", **_SERVED_ONCE
    )
    return OfTextTwice(transformers.T5ForConditionalGeneration(config))


# No words that mean an end or a beginning, which a small vocabulary does not have.
_SERVED_ONCE: dict[str, Any] = {
    **{"use_cache": False, "bos_token_id": None, "eos_token_id": None},
}


def _grouped(
    words: int, hidden: int, layers: int, heads: int, key_value_heads: int, inner: int
) -> dict[str, Any]:
    return {
        **{"vocab_size": words, "hidden_size": hidden, "num_hidden_layers": layers},
        **{"num_attention_heads": heads, "num_key_value_heads": key_value_heads, "intermediate_size": inner},
    }
