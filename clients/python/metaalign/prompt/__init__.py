"""Turns preferences into a prompt. The server and the training package use the same functions, so that a model is
served exactly the prompts that it was trained on.

    resolution   layers of preferences -> one specification: who may set what, and what wins
    steering     layers -> the branches of an answer: how strongly each tier acts
    rendering    the specification -> the text of the two tiers
    template     the tiers and the dialogue -> text, by the checkpoint's chat template
    assembly     that text -> token ids, in which no outside text is a control token
    manifest     what a checkpoint was trained with, checked before it is served
"""

from metaalign.prompt.assembly import Prompt, PromptAssembler
from metaalign.prompt.manifest import Manifest, read_manifest, verify_checkpoint, write_manifest
from metaalign.prompt.rendering import MetaPrompt, fold, render
from metaalign.prompt.resolution import Layer, Overridden, Resolution, Tier, request_layers, resolve
from metaalign.prompt.steering import Branch, Steered, steer
from metaalign.prompt.template import (
    CONTROL_TOKENS,
    END_TOKEN,
    PAD_TOKEN,
    ChatTemplate,
    packaged_template,
)

__all__ = [
    "CONTROL_TOKENS",
    "END_TOKEN",
    "PAD_TOKEN",
    "Branch",
    "ChatTemplate",
    "Layer",
    "Manifest",
    "MetaPrompt",
    "Overridden",
    "Prompt",
    "PromptAssembler",
    "Resolution",
    "Steered",
    "Tier",
    "fold",
    "packaged_template",
    "read_manifest",
    "render",
    "request_layers",
    "resolve",
    "steer",
    "verify_checkpoint",
    "write_manifest",
]
