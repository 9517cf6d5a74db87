"""Tiny models of Stable Diffusion 1.5, SDXL and Flux with random weights, about 1 MB each.

They paint noise, by the same code as real ones. Each is written as a folder of diffusers, then as a single file: those
of Stable Diffusion with the names of the original checkpoints, which the loader has to translate; that of Flux with the
names of diffusers, because the loader knows the original ones for the size of the real model only.
"""

import re
import shutil
from pathlib import Path

import diffusers
import torch
import transformers
from safetensors.torch import load_file, save_file

BETAS = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "steps_offset": 1}
UNET = {
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": (8, 16),
    "layers_per_block": 1,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    "norm_num_groups": 4,
}


def make(folder: Path) -> None:
    for name, build in (("sd", stable_diffusion), ("sdxl", sdxl), ("flux", flux)):
        torch.manual_seed(0)
        build().save_pretrained(folder / name)
    save_file(stable_diffusion_checkpoint(folder / "sd"), folder / "sd-file.safetensors")
    save_file(sdxl_checkpoint(folder / "sdxl"), folder / "sdxl-file.safetensors")
    weights = folder / "flux" / "transformer" / "diffusion_pytorch_model.safetensors"
    shutil.copyfile(weights, folder / "flux-file.safetensors")


def stable_diffusion():
    unet = diffusers.UNet2DConditionModel(sample_size=64, cross_attention_dim=32, attention_head_dim=4, **UNET)
    return diffusers.StableDiffusionPipeline(
        unet=unet,
        vae=vae(),
        text_encoder=transformers.CLIPTextModel(clip(32)),
        tokenizer=tokenizer(),
        scheduler=diffusers.PNDMScheduler(skip_prk_steps=True, **BETAS),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def sdxl():
    unet = diffusers.UNet2DConditionModel(
        sample_size=128,
        cross_attention_dim=32 + 64,
        attention_head_dim=(2, 4),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        transformer_layers_per_block=(1, 2),
        projection_class_embeddings_input_dim=8 * 6 + 64,
        **UNET,
    )
    return diffusers.StableDiffusionXLPipeline(
        unet=unet,
        vae=vae(),
        text_encoder=transformers.CLIPTextModel(clip(32)),
        text_encoder_2=transformers.CLIPTextModelWithProjection(clip(64)),
        tokenizer=tokenizer(),
        tokenizer_2=tokenizer(),
        scheduler=diffusers.EulerDiscreteScheduler(**BETAS),
        add_watermarker=False,
    )


def flux():
    transformer = diffusers.FluxTransformer2DModel(
        patch_size=1,
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        pooled_projection_dim=32,
        axes_dims_rope=[4, 4, 8],
        guidance_embeds=True,
    )
    t5 = transformers.T5Config(vocab_size=1000, d_model=32, d_ff=37, d_kv=8, num_layers=2, num_heads=4)
    return diffusers.FluxPipeline(
        transformer=transformer,
        vae=vae(use_quant_conv=False, use_post_quant_conv=False, shift_factor=0.06, scaling_factor=1.5),
        text_encoder=transformers.CLIPTextModel(clip(32)),
        tokenizer=tokenizer(),
        text_encoder_2=transformers.T5EncoderModel(t5),
        tokenizer_2=tokenizer(),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
    )


def vae(**more):
    """Four levels, as in real models: with two, decoding takes minutes."""
    return diffusers.AutoencoderKL(
        block_out_channels=[4, 4, 8, 8],
        down_block_types=["DownEncoderBlock2D"] * 4,
        up_block_types=["UpDecoderBlock2D"] * 4,
        latent_channels=4,
        norm_num_groups=2,
        **more,
    )


def clip(width):
    return transformers.CLIPTextConfig(
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
        hidden_size=width,
        intermediate_size=2 * width,
        num_attention_heads=4,
        num_hidden_layers=2,
        vocab_size=1000,
        projection_dim=width,
        max_position_embeddings=77,
    )


def tokenizer():
    """One token for each byte, at the end of a word and elsewhere."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = [chr(byte) for byte in plain] + [chr(256 + n) for n in range(256 - len(plain))]
    words = ["<|startoftext|>", "<|endoftext|>", *letters, *(letter + "</w>" for letter in letters)]
    return transformers.CLIPTokenizer(
        vocab={word: number for number, word in enumerate(words)}, merges=[], model_max_length=77
    )


# ---- checkpoints with the original names: the opposite of what diffusers does at the load of a single file


def stable_diffusion_checkpoint(folder: Path) -> dict[str, torch.Tensor]:
    text = {f"cond_stage_model.transformer.{name}": value for name, value in text_encoder(folder, "text_encoder")}
    return {**unet_checkpoint(folder), **vae_checkpoint(folder), **text}


def sdxl_checkpoint(folder: Path) -> dict[str, torch.Tensor]:
    text = {
        f"conditioner.embedders.0.transformer.{name}": value for name, value in text_encoder(folder, "text_encoder")
    }
    return {**unet_checkpoint(folder), **vae_checkpoint(folder), **text, **open_clip_checkpoint(folder)}


def parts(folder: Path, name: str, file="diffusion_pytorch_model.safetensors"):
    return load_file(folder / name / file).items()


def text_encoder(folder: Path, name: str):
    for key, value in parts(folder, name, "model.safetensors"):
        yield key if key.startswith(("text_model.", "text_projection")) else f"text_model.{key}", value


def unet_checkpoint(folder: Path) -> dict[str, torch.Tensor]:
    """Two levels with one layer each: blocks 0 to 3 on both sides."""
    names = {
        "time_embedding.linear_1": "time_embed.0",
        "time_embedding.linear_2": "time_embed.2",
        "add_embedding.linear_1": "label_emb.0.0",
        "add_embedding.linear_2": "label_emb.0.2",
        "conv_in": "input_blocks.0.0",
        "conv_norm_out": "out.0",
        "conv_out": "out.2",
        "down_blocks.0.resnets.0": "input_blocks.1.0",
        "down_blocks.0.downsamplers.0.conv": "input_blocks.2.0.op",
        "down_blocks.1.resnets.0": "input_blocks.3.0",
        "down_blocks.1.attentions.0": "input_blocks.3.1",
        "mid_block.resnets.0": "middle_block.0",
        "mid_block.attentions.0": "middle_block.1",
        "mid_block.resnets.1": "middle_block.2",
        "up_blocks.0.resnets.0": "output_blocks.0.0",
        "up_blocks.0.attentions.0": "output_blocks.0.1",
        "up_blocks.0.resnets.1": "output_blocks.1.0",
        "up_blocks.0.attentions.1": "output_blocks.1.1",
        "up_blocks.0.upsamplers.0.conv": "output_blocks.1.2.conv",
        "up_blocks.1.resnets.0": "output_blocks.2.0",
        "up_blocks.1.resnets.1": "output_blocks.3.0",
    }
    inside = {
        "norm1": "in_layers.0",
        "conv1": "in_layers.2",
        "norm2": "out_layers.0",
        "conv2": "out_layers.3",
        "time_emb_proj": "emb_layers.1",
        "conv_shortcut": "skip_connection",
    }
    found = {}
    for key, value in parts(folder, "unet"):
        old = next(name for name in names if key.startswith(f"{name}."))
        rest = key.removeprefix(old)
        if ".resnets." in old:
            first, _, last = rest[1:].partition(".")
            rest = f".{inside[first]}.{last}"
        found[f"model.diffusion_model.{names[old]}{rest}"] = value
    return found


def vae_checkpoint(folder: Path) -> dict[str, torch.Tensor]:
    attention = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
    found = {}
    for key, value in parts(folder, "vae"):
        name = key.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
        name = re.sub(r"mid_block\.resnets\.(\d)", lambda at: f"mid.block_{int(at[1]) + 1}", name)
        if "mid_block.attentions.0." in name:
            start, _, rest = name.partition("mid_block.attentions.0.")
            part, _, last = rest.rpartition(".")
            name = f"{start}mid.attn_1.{attention[part]}.{last}"
        name = re.sub(r"down_blocks\.(\d)\.resnets", r"down.\1.block", name)
        name = re.sub(r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample", name)
        name = re.sub(r"up_blocks\.(\d)\.resnets", lambda at: f"up.{3 - int(at[1])}.block", name)
        name = re.sub(r"up_blocks\.(\d)\.upsamplers\.0", lambda at: f"up.{3 - int(at[1])}.upsample", name)
        found[f"first_stage_model.{name}"] = value
    return found


def open_clip_checkpoint(folder: Path) -> dict[str, torch.Tensor]:
    """The second text encoder of SDXL, with the names of OpenCLIP: queries, keys and values are one matrix."""
    tensors, prefix = dict(text_encoder(folder, "text_encoder_2")), "conditioner.embedders.1.model"
    found = {
        f"{prefix}.positional_embedding": tensors["text_model.embeddings.position_embedding.weight"],
        f"{prefix}.token_embedding.weight": tensors["text_model.embeddings.token_embedding.weight"],
        f"{prefix}.ln_final.weight": tensors["text_model.final_layer_norm.weight"],
        f"{prefix}.ln_final.bias": tensors["text_model.final_layer_norm.bias"],
        f"{prefix}.text_projection": tensors["text_projection.weight"].T.contiguous(),
    }
    names = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj"}
    names["self_attn.out_proj"] = "attn.out_proj"
    for layer in (0, 1):
        old, new = f"text_model.encoder.layers.{layer}", f"{prefix}.transformer.resblocks.{layer}"
        for kind in ("weight", "bias"):
            three = [tensors[f"{old}.self_attn.{part}_proj.{kind}"] for part in "qkv"]
            found[f"{new}.attn.in_proj_{kind}"] = torch.cat(three)
            found.update({f"{new}.{names[name]}.{kind}": tensors[f"{old}.{name}.{kind}"] for name in names})
    return found
