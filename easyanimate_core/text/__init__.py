"""Text encoders: from prompts to embeddings."""

from .bert_t5 import BertT5TextEncoder, Reader, bert_from_tensors, t5_from_tensors
from .build import build_text_encoder, check_text_encoder
from .cut import Cut, cut_of
from .embedding import TextEmbedding, TextEncoder, TextStates, check_states
from .embedding_cache import EmbeddingCache, encoder_identity, find_cache_folder
from .embedding_file import PromptEmbeddings, read_embeddings, write_embeddings
from .prompts import EncodedPrompt, encode_prompts
from .qwen import QwenTextEncoder, qwen_from_tensors
from .tokenize import load_bert_tokenizer, load_qwen_tokenizer, load_t5_tokenizer
from .weights import Placement

__all__ = [
    "BertT5TextEncoder",
    "Cut",
    "EmbeddingCache",
    "EncodedPrompt",
    "Placement",
    "PromptEmbeddings",
    "QwenTextEncoder",
    "Reader",
    "TextEmbedding",
    "TextEncoder",
    "TextStates",
    "bert_from_tensors",
    "build_text_encoder",
    "check_states",
    "check_text_encoder",
    "cut_of",
    "encode_prompts",
    "encoder_identity",
    "find_cache_folder",
    "load_bert_tokenizer",
    "load_qwen_tokenizer",
    "load_t5_tokenizer",
    "qwen_from_tensors",
    "read_embeddings",
    "t5_from_tensors",
    "write_embeddings",
]
