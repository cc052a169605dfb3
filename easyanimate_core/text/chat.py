"""Wraps a prompt in the chat format of Qwen2-VL's language model.

A tokenizer folder defines it as a Jinja template: a program that can loop forever or produce
unlimited output. The models only use two known templates, so these are written here as the text
around the prompt, and no template is ever executed.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from ..errors import CheckpointError

#: Qwen2-VL's template, reduced to text-only messages.
QWEN_TEMPLATE = (
    "{% for message in messages %}"
    "{% if loop.first and message['role'] != 'system' %}"
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    "{% endif %}"
    "<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}{{ part['text'] }}{% endfor %}{% endif %}"
    "<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
#: The user's turn only, as for the small model.
BARE_TEMPLATE = (
    "{% for message in messages %}<|im_start|>"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}{{ part['text'] }}{% endfor %}{% endif %}"
    "<|im_end|>{% endfor %}"
)
#: SHA-256 of the template in the published folders, which also supports images and videos.
_PUBLISHED = "a0bc6f6fc7a29a80017a433e8f03a1cc1236e838a944a2d034295a60c4f2fddb"


@dataclass(frozen=True)
class Chat:
    """The text before and after a prompt."""

    before: str
    after: str

    def __call__(self, prompt: str) -> str:
        """The prompt in its chat format."""
        return f"{self.before}{prompt}{self.after}"


QWEN_CHAT = Chat(
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n",
    "<|im_end|>\n<|im_start|>assistant\n",
)
_BARE_CHAT = Chat("<|im_start|>", "<|im_end|>")


def _digest(template: str) -> str:
    return hashlib.sha256(template.encode()).hexdigest()


_KNOWN = {
    _PUBLISHED: QWEN_CHAT,
    _digest(QWEN_TEMPLATE): QWEN_CHAT,
    _digest(BARE_TEMPLATE): _BARE_CHAT,
}


def chat_of(template: object, where: str) -> Chat:
    """The chat format of a folder's template; `CheckpointError` for an unknown template."""
    if isinstance(template, dict):
        template = template.get("default")
    if not isinstance(template, str) or not template:
        raise CheckpointError(
            f"The Qwen2-VL tokenizer in {where} has no chat template; its tokenizer_config.json "
            "(or chat_template.jinja) must contain one. Download the folder again."
        )
    known = _KNOWN.get(_digest(template))
    if known is None:
        raise CheckpointError(
            f"The Qwen2-VL tokenizer in {where} has a chat template that no EasyAnimate model was "
            "trained with. A template is a program, so an unknown one is not run. Use the "
            "tokenizer folder of the published checkpoint."
        )
    return known
