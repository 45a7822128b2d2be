"""Peer: a model of another tool with LoRA on all seven linear maps, of random weights; and one without."""

import sys
from contextlib import contextmanager

import torch
from batches import PACKED_TOKENS
from lines import free, said
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from tenbin.bench_sizes import model_sizes
from tenbin.models.shape import ModelShape

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


class Peer:
    """One tool's model, built once, with what a line says of it."""

    def __init__(self, system, options, name, device, works):
        self.variant, self.name, self.device = options.variant, name, device
        self.system = system
        sizes = model_sizes(name)
        self.shape = ModelShape.read(sizes)
        longest = max(PACKED_TOKENS, *(len(e) for work in works for e in work.examples))
        self.sizes = {**sizes, "max_position_embeddings": longest}
        self.model = self._unsloth(options.scratch, longest) if self.system == "unsloth" else self._peft()
        self.model.train()

    def _peft(self):
        from peft import LoraConfig, get_peft_model

        model = random_model(self.sizes, self.device)
        if self.system == "liger":
            from liger_kernel.transformers import apply_liger_kernel_to_llama

            apply_liger_kernel_to_llama(model=model)
        if self.variant.endswith("ckpt"):
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
            model.enable_input_require_grads()
        lora = LoraConfig(
            r=16, lora_alpha=16, lora_dropout=0.0, target_modules=TARGETS, task_type="CAUSAL_LM"
        )
        model.config.use_cache = False
        return get_peft_model(model, lora)

    def _unsloth(self, scratch, longest):
        """Unsloth loads from a folder; weights that are random anyway need not be read from it."""
        from unsloth import FastLanguageModel

        folder = write_folder(scratch / f"{self.name}-{longest}", self.sizes)

        def load():
            model, _ = FastLanguageModel.from_pretrained(
                str(folder),
                max_seq_length=longest,
                dtype=torch.bfloat16,
                load_in_4bit=False,
                local_files_only=True,
            )
            return model

        try:
            with made_where_loaded(self.sizes, self.device):
                model = load()
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # it looked for the weights itself
            reason = said(error)
            print(f"made from its sizes: {reason}; weights are written and loaded", file=sys.stderr)
            model = None
        if model is None:
            free()
            if not (folder / "complete").exists():
                random_model(self.sizes, self.device).save_pretrained(folder)
                (folder / "complete").touch()
                free()
            model = load()
        return FastLanguageModel.get_peft_model(
            model,
            r=16,
            lora_alpha=16,
            lora_dropout=0,
            bias="none",
            target_modules=TARGETS,
            use_gradient_checkpointing="unsloth" if self.variant.endswith("ckpt") else False,
            max_seq_length=longest,
        )

    def step(self, optimizer, batch):
        """One optimizer step; the loss."""
        loss = self.model(**batch, use_cache=False).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss


def random_model(sizes, device, attention="sdpa"):
    """A model of these sizes in bf16, made where it stays."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(**sizes)
    with device.torch:
        return AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16, attn_implementation=attention)


def write_folder(folder, sizes):
    """A model folder without weights."""
    config = AutoConfig.for_model(**sizes)
    config.architectures = [MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[sizes["model_type"]]]
    config.dtype = torch.bfloat16
    config.save_pretrained(folder)
    any_tokenizer(sizes["vocab_size"]).save_pretrained(folder)
    return folder


@contextmanager
def made_where_loaded(sizes, device):
    """While it lasts, loading a causal language model makes one of these sizes with random weights."""
    loading = AutoModelForCausalLM.from_pretrained

    def made(folder, *_, attn_implementation=None, **__):
        model = random_model(sizes, device, attn_implementation or "sdpa")
        model.name_or_path = model.config.name_or_path = str(folder)
        return model

    AutoModelForCausalLM.from_pretrained = made
    try:
        yield
    finally:
        AutoModelForCausalLM.from_pretrained = loading


def any_tokenizer(size):
    """Unsloth asks for one; nothing is tokenized."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    words = {"<unk>": 0, "<s>": 1, "</s>": 2, **{f"t{i}": i for i in range(3, size)}}
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(words, unk_token="<unk>")),
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<unk>",
    )
