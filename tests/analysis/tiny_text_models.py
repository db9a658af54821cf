"""Text models with random weights, small enough to train in a second, as Hugging Face folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def _tokeniser(texts: list[str], folder: Path) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.BPE(unk_token=None))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        special_tokens=["<pad>", "<s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(texts, trainer)
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<s>", pad_token="<pad>", model_max_length=256
    )
    wrapped.save_pretrained(str(folder))
    return wrapped


def tiny_decoder(folder: Path, texts: list[str], seed: int = 0) -> Path:
    """Write a Llama with two layers of width 32."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokeniser = _tokeniser(texts, folder)
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokeniser), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=512,
        bos_token_id=1, eos_token_id=None, pad_token_id=0,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(str(folder))
    return folder


def tiny_encoder(folder: Path, texts: list[str], seed: int = 0) -> Path:
    """Write a BERT with two layers of width 32."""
    import torch
    from transformers import BertConfig, BertModel

    tokeniser = _tokeniser(texts, folder)
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(tokeniser), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=256, pad_token_id=0,
    )  # fmt: skip
    BertModel(config).save_pretrained(str(folder))
    return folder


def tiny_sequence_to_sequence(folder: Path, texts: list[str], seed: int = 0) -> Path:
    """Write a BART with one layer of width 32 on either side."""
    import torch
    from transformers import BartConfig, BartForConditionalGeneration

    tokeniser = _tokeniser(texts, folder)
    torch.manual_seed(seed)
    config = BartConfig(
        vocab_size=len(tokeniser), d_model=32, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=64, decoder_ffn_dim=64, max_position_embeddings=512,
        bos_token_id=1, eos_token_id=1, pad_token_id=0, decoder_start_token_id=1, forced_eos_token_id=None,
    )  # fmt: skip
    BartForConditionalGeneration(config).save_pretrained(str(folder))
    return folder
