"""The architectures taken from transformers, in small configurations.

Few layers and a small vocabulary keep files and runs short; several heads, and key-value heads fewer than
query heads, keep the structure that pruning has to understand.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from zoo.entry import Entry, Input, image, tokens
from zoo.torchvision_shim import import_torchvision

_BERT: dict[str, Any] = {
    "vocab_size": 1000, "hidden_size": 192, "num_hidden_layers": 3, "num_attention_heads": 6,
    "intermediate_size": 768, "max_position_embeddings": 128,
}  # fmt: skip
_LLAMA: dict[str, Any] = {
    "vocab_size": 1000, "hidden_size": 192, "intermediate_size": 512, "num_hidden_layers": 3,
    "num_attention_heads": 6, "num_key_value_heads": 2, "max_position_embeddings": 128, "use_cache": False,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
_SPEECH: dict[str, Any] = {
    "vocab_size": 32, "hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
    "intermediate_size": 256, "conv_dim": (64, 64, 64, 64), "conv_stride": (5, 4, 2, 2),
    "conv_kernel": (10, 8, 4, 4), "num_feat_extract_layers": 4, "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4, "mask_time_prob": 0.0,
}  # fmt: skip


def _transformers() -> Any:
    import_torchvision()  # transformers imports it too, and would meet the missing operators
    import transformers

    return transformers


def _model(model: str, config: str, inputs: tuple[Input, ...], outputs: tuple[str, ...], options: Any) -> Any:
    from zoo.module_wrappers import Named

    transformers = _transformers()
    attention = options.get("attn_implementation", "sdpa")
    settings = getattr(transformers, config)(**{**options, "attn_implementation": attention})
    # eval() here as well: some constructors leave dropout layers that tracing would bake in.
    return Named(getattr(transformers, model)(settings).eval(), tuple(i.name for i in inputs), outputs)


def _of(
    name: str,
    family: str,
    model: str,
    config: str,
    inputs: tuple[Input, ...] = tokens(),
    outputs: tuple[str, ...] = ("logits",),
    **options: Any,
) -> Entry:
    return Entry(name, "transformers", family, partial(_model, model, config, inputs, outputs, options), inputs)


def _clip() -> Any:
    from zoo.module_wrappers import Named

    transformers = _transformers()
    tower = {"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 2, "num_attention_heads": 4}
    text = dict(tower, vocab_size=1000, max_position_embeddings=32, eos_token_id=2, bos_token_id=1)
    vision = dict(tower, image_size=96, patch_size=16)
    config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=64)
    names = tuple(i.name for i in _CLIP_INPUTS)
    return Named(transformers.CLIPModel(config).eval(), names, ("logits_per_image", "text_embeds"))


_CLIP_INPUTS = (
    Input("input_ids", (3, 16), {0: "texts", 1: "sequence"}, "ids", 1000),
    Input("pixel_values", (2, 3, 96, 96), {0: "batch"}),
    Input("attention_mask", (3, 16), {0: "texts", 1: "sequence"}, "mask"),
)


def _encoder_of(model: str, config: str, options: Any, inputs: tuple[Input, ...]) -> Any:
    """The encoder alone of a sequence-to-sequence model, as such models are deployed in two files."""
    from zoo.module_wrappers import Named

    transformers = _transformers()
    whole = getattr(transformers, model)(getattr(transformers, config)(**options)).eval()
    return Named(whole.get_encoder(), tuple(i.name for i in inputs), ("last_hidden_state",))


def _encoder(name: str, family: str, model: str, config: str, inputs: tuple[Input, ...], **options: Any) -> Entry:
    build: Callable[[], Any] = partial(_encoder_of, model, config, options, inputs)
    return Entry(name, "transformers", family, build, inputs)


_WAVE = (Input("input_values", (2, 4000), {0: "batch"}),)
_PIXELS = (Input("pixel_values", image(128)[0].shape, {0: "batch"}),)

_ENCODERS = (
    _of("bert", "bert", "BertForSequenceClassification", "BertConfig", **_BERT),
    _of("bert_mlm", "bert", "BertForMaskedLM", "BertConfig", attn_implementation="eager", **_BERT),
    _of(
        "distilbert", "bert", "DistilBertForSequenceClassification", "DistilBertConfig",
        vocab_size=1000, dim=192, n_layers=3, n_heads=6, hidden_dim=768, max_position_embeddings=128,
    ),
    _of("albert", "bert", "AlbertForMaskedLM", "AlbertConfig", embedding_size=64, **_BERT),
    _of("roberta", "bert", "RobertaForMaskedLM", "RobertaConfig", pad_token_id=1, **_BERT),
    _of("electra", "bert", "ElectraForSequenceClassification", "ElectraConfig", embedding_size=64, **_BERT),
    _of(
        "deberta_v2", "bert", "DebertaV2ForSequenceClassification", "DebertaV2Config",
        relative_attention=True, position_buckets=32, pos_att_type=["p2c", "c2p"], norm_rel_ebd="layer_norm",
        share_att_key=True, attn_implementation="eager", **_BERT,
    ),
    _of("mpnet", "bert", "MPNetForMaskedLM", "MPNetConfig", attn_implementation="eager", **_BERT),
    _of("squeezebert", "bert", "SqueezeBertForSequenceClassification", "SqueezeBertConfig",
        embedding_size=192, attn_implementation="eager", **{**_BERT, "num_attention_heads": 4}),
    _of("mobilebert", "bert", "MobileBertForSequenceClassification", "MobileBertConfig",
        vocab_size=1000, hidden_size=256, embedding_size=64, num_hidden_layers=3, num_attention_heads=4,
        intermediate_size=256, max_position_embeddings=128),
    _of("modernbert", "bert", "ModernBertForMaskedLM", "ModernBertConfig", pad_token_id=0, bos_token_id=1,
        eos_token_id=2, cls_token_id=1, sep_token_id=2, local_attention=8,
        **{**_BERT, "num_attention_heads": 6}),
)  # fmt: skip

_DECODERS = (
    _of("gpt2", "gpt", "GPT2LMHeadModel", "GPT2Config", vocab_size=1000, n_embd=192, n_layer=3, n_head=6,
        n_positions=128, use_cache=False),
    _of("gpt_neox", "gpt", "GPTNeoXForCausalLM", "GPTNeoXConfig", use_cache=False, **_BERT),
    _of("opt", "gpt", "OPTForCausalLM", "OPTConfig", vocab_size=1000, hidden_size=192, num_hidden_layers=3,
        ffn_dim=768, num_attention_heads=6, max_position_embeddings=128, word_embed_proj_dim=192,
        use_cache=False),
    _of("bloom", "gpt", "BloomForCausalLM", "BloomConfig", vocab_size=1000, hidden_size=192, n_layer=3,
        n_head=6, use_cache=False, attn_implementation="eager"),
    _of("llama", "llama", "LlamaForCausalLM", "LlamaConfig", **_LLAMA),
    _of("mistral", "llama", "MistralForCausalLM", "MistralConfig", sliding_window=8, **_LLAMA),
    _of("qwen2", "llama", "Qwen2ForCausalLM", "Qwen2Config", tie_word_embeddings=True, **_LLAMA),
    _of("qwen3", "llama", "Qwen3ForCausalLM", "Qwen3Config", head_dim=48, **_LLAMA),
    _of("gemma", "llama", "GemmaForCausalLM", "GemmaConfig", head_dim=48,
        **{**_LLAMA, "num_key_value_heads": 1}),
    _of("phi3", "llama", "Phi3ForCausalLM", "Phi3Config", attn_implementation="eager", **_LLAMA),
    _of("llama_eager", "llama", "LlamaForCausalLM", "LlamaConfig", attn_implementation="eager", **_LLAMA),
)  # fmt: skip

_OTHERS = (
    _encoder("t5_encoder", "t5", "T5ForConditionalGeneration", "T5Config", tokens(), vocab_size=1000,
             d_model=192, d_kv=32, d_ff=512, num_layers=3, num_heads=6, feed_forward_proj="gated-gelu"),
    _encoder("whisper_encoder", "speech", "WhisperModel", "WhisperConfig",
             (Input("input_features", (2, 40, 200), {0: "batch"}),), vocab_size=1000, d_model=192,
             encoder_layers=3, decoder_layers=1, encoder_attention_heads=6, decoder_attention_heads=6,
             encoder_ffn_dim=768, decoder_ffn_dim=128, num_mel_bins=40, max_source_positions=100,
             pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1),
    _of("wav2vec2", "speech", "Wav2Vec2ForCTC", "Wav2Vec2Config", _WAVE, **_SPEECH),
    _of("hubert", "speech", "HubertForCTC", "HubertConfig", _WAVE, feat_extract_norm="layer",
        do_stable_layer_norm=True, **_SPEECH),
    _of("ast", "speech", "ASTForAudioClassification", "ASTConfig",
        (Input("input_values", (2, 96, 64), {0: "batch"}),), hidden_size=128, num_hidden_layers=2,
        num_attention_heads=4, intermediate_size=512, max_length=96, num_mel_bins=64, num_labels=35),
    _of("segformer", "segmentation", "SegformerForSemanticSegmentation", "SegformerConfig", _PIXELS,
        num_labels=21, depths=[1, 1, 1, 1]),
    Entry("clip", "transformers", "clip", _clip, _CLIP_INPUTS),
)  # fmt: skip

ENTRIES = _ENCODERS + _DECODERS + _OTHERS
