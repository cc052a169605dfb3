"""Text encoders: prompts to embeddings."""

from .bert_t5 import BertT5TextEncoder, Reader, bert_from_tensors, t5_from_tensors
from .build import build_text_encoder
from .embedding import TextEmbedding, TextEncoder
from .qwen import QwenTextEncoder, qwen_from_tensors
from .tokenize import load_bert_tokenizer, load_qwen_tokenizer, load_t5_tokenizer
from .weights import Placement

__all__ = [
    "BertT5TextEncoder",
    "Placement",
    "QwenTextEncoder",
    "Reader",
    "TextEmbedding",
    "TextEncoder",
    "bert_from_tensors",
    "build_text_encoder",
    "load_bert_tokenizer",
    "load_qwen_tokenizer",
    "load_t5_tokenizer",
    "qwen_from_tensors",
    "t5_from_tensors",
]
