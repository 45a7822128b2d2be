"""Peer: a model of another tool with LoRA on all seven linear maps, of random weights; and one without."""

import gc

import torch
from batches import PACKED_TOKENS
from transformers import AutoConfig, AutoModelForCausalLM

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
        """Unsloth loads from a folder: random weights, written once, found again by the next variant."""
        from unsloth import FastLanguageModel

        folder = scratch / f"{self.name}-{longest}"
        if not (folder / "complete").exists():
            random_model(self.sizes, self.device).save_pretrained(folder)
            gc.collect()
            if self.device.kind == "cuda":
                torch.cuda.empty_cache()
            any_tokenizer(self.shape.vocab_size).save_pretrained(folder)
            (folder / "complete").touch()
        model, _ = FastLanguageModel.from_pretrained(
            str(folder),
            max_seq_length=longest,
            dtype=torch.bfloat16,
            load_in_4bit=False,
            local_files_only=True,
        )
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


def random_model(sizes, device):
    """A model of these sizes in bf16, made where it stays."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(**sizes)
    with device.torch:
        return AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16, attn_implementation="sdpa")


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
