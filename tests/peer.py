"""A layer or model beside its twin in PyTorch: the same weights must give the same results and the same gradients.

The twin gets our weights as tensors under our names and in our layout, and hands them, turned as PyTorch wants them, to a
module of `torch.nn` (`call`) or to PyTorch's functions. So PyTorch's gradients come back under our names, and `compare`
can look at every one of them. Importing this file skips the tests where PyTorch is not installed.
"""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
F, nn = torch.nn.functional, torch.nn

CLOSE = {"rtol": 1e-10, "atol": 1e-12}     # of arrays whose entries are of order 1, in float64


class Weights(dict):
    """Tensors by the dotted names of our parameters and running statistics."""

    def part(self, prefix):
        """What belongs to one of the sub-modules."""
        return Weights({name[len(prefix) + 1:]: tensor for name, tensor in self.items() if name.startswith(prefix + ".")})

    def beside(self, *names, kind="weight"):
        """The weights (or biases) of several linear maps as a single one: (D_in, sum of the D_out)."""
        return torch.cat([self[f"{name}.{kind}"] for name in names], dim=-1)


def compare(layer, twin, inputs, rng, *, counted=None, **options):
    """Run ours and the twin on the same numbers; results, gradients and running statistics must agree.

    Args:
        layer: a Module, of which all parameters and running statistics are moved away from where they start.
        twin: twin(weights, **inputs) -> a tensor like our output, or a tuple of them.
        inputs: the forward's arguments by name. Arrays of floats are differentiable; backward returns their gradients in this order.
        counted: boolean, broadcasts to the output: what stands elsewhere means nothing.   options: for our forward alone.
    """
    layer.astype(np.float64)
    for parameter in layer.parameters():
        parameter.value += 0.3 * rng.normal(size=parameter.shape)
    for _, statistic in layer.named_buffers():
        statistic += rng.uniform(0.1, 0.5, size=statistic.shape)
    weights = Weights({name: torch.tensor(array) for name, array in layer.state().items()})
    for name, parameter in layer.named_parameters():
        weights[name].requires_grad_()
    tensors = {name: torch.tensor(array) for name, array in inputs.items()}
    differentiable = [name for name, tensor in tensors.items() if tensor.is_floating_point()]
    for name in differentiable:
        tensors[name].requires_grad_()

    out, cache = layer.forward(**inputs, **options)
    expected = twin(weights, **tensors)
    counted = np.ones(out.shape, bool) if counted is None else np.broadcast_to(counted, out.shape)
    d_out = rng.normal(size=out.shape) * counted
    expected.backward(torch.tensor(d_out))
    d_inputs = layer.backward(d_out, cache)

    agree("out", out * counted, expected.detach() * torch.tensor(counted))
    d_inputs = () if d_inputs is None else d_inputs if isinstance(d_inputs, tuple) else (d_inputs,)
    for name, ours in zip(differentiable, d_inputs, strict=True):
        agree(f"gradient of {name}", ours, tensors[name].grad)
    for name, parameter in layer.named_parameters():
        agree(f"gradient of {name}", parameter.grad, weights[name].grad)
    for name, statistic in layer.named_buffers():
        agree(name, statistic, weights[name])


def agree(name, ours, theirs):
    assert theirs is not None, f"{name}: PyTorch has none"
    np.testing.assert_allclose(ours, theirs.detach().numpy(), err_msg=name, **CLOSE)


def call(module, weights, *inputs, **options):
    """A module of torch.nn with these weights, by its own names, instead of its own. None may be left out."""
    return torch.func.functional_call(module, weights, inputs, options, strict=True)


def images_first(function, x):
    """Our images are (B, H, W, C), PyTorch's (B, C, H, W)."""
    return function(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


# ---- layers -----------------------------------------------------------------------------------------------------------


def linear(w, x):
    d_in, d_out = w["weight"].shape
    weights = {"weight": w["weight"].T} | ({"bias": w["bias"]} if "bias" in w else {})
    return call(nn.Linear(d_in, d_out, bias="bias" in w), weights, x)


def layer_norm(w, x):
    return call(nn.LayerNorm(x.shape[-1]), {"weight": w["gain"], "bias": w["bias"]}, x)


def batch_norm(w, x, training=False, momentum=0.1, eps=1e-5):
    weights = {"weight": w["gain"], "bias": w["bias"], "running_mean": w["running_mean"], "running_var": w["running_variance"],
               "num_batches_tracked": torch.tensor(0)}
    module = nn.BatchNorm2d(x.shape[-1], eps, momentum).train(training)
    return images_first(lambda images: call(module, weights, images), x)


def conv2d(w, x, stride=1, padding=1):
    kh, kw, c_in, c_out = w["weight"].shape
    weights = {"weight": w["weight"].permute(3, 2, 0, 1)} | ({"bias": w["bias"]} if "bias" in w else {})
    module = nn.Conv2d(c_in, c_out, (kh, kw), stride, padding, bias="bias" in w)
    return images_first(lambda images: call(module, weights, images), x)


def conv_block(w, x, training=False, stride=1):
    return F.relu(batch_norm(w.part("norm"), conv2d(w.part("conv"), x, stride), training))


def residual_block(w, x, training=False, stride=1):
    y = conv_block(w.part("first"), x, training, stride)
    y = batch_norm(w.part("norm"), conv2d(w.part("conv"), y), training)
    if "shortcut.weight" in w:
        x = batch_norm(w.part("shortcut_norm"), conv2d(w.part("shortcut"), x, stride, padding=0), training)
    return F.relu(x + y)


def slopes(w, x):
    filters = w["filters"].permute(3, 2, 0, 1)
    return torch.cat([x, F.relu(images_first(lambda images: F.conv2d(images, filters, padding=1), x))], dim=-1)


def image_encoder(w, images, strides, training=False):
    """`ImageEncoder` and `ResidualImageEncoder`."""
    x = slopes(w.part("slopes"), images) if "slopes.filters" in w else images
    for i, stride in enumerate(strides):
        block = w.part(f"blocks.{i}")
        x = (residual_block if "first.conv.weight" in block else conv_block)(block, x, training, stride)
    return layer_norm(w.part("norm"), linear(w.part("project"), x.flatten(1, 2)) + w["positions.weight"])


def lstm(w, x, lengths=None):
    """Of texts with these lengths, sorted from long to short, PyTorch reads a packed sequence."""
    d_in, d_state = x.shape[-1], w["weight_h"].shape[0]
    weights = {"weight_ih_l0": w["weight_x"].T, "weight_hh_l0": w["weight_h"].T, "bias_ih_l0": w["bias"],
               "bias_hh_l0": torch.zeros_like(w["bias"])}
    if lengths is None:
        return call(nn.LSTM(d_in, d_state, batch_first=True), weights, x)[0]
    packed = nn.utils.rnn.pack_padded_sequence(x, torch.tensor(lengths), batch_first=True)
    out, _ = call(nn.LSTM(d_in, d_state, batch_first=True), weights, packed)
    return nn.utils.rnn.pad_packed_sequence(out, batch_first=True, total_length=x.shape[1])[0]


def attention_weights(w):
    """Of nn.MultiheadAttention, by its names; keys and values may be of another width than queries."""
    same = w["query.weight"].shape == w["key.weight"].shape
    inputs = ({"in_proj_weight": w.beside("query", "key", "value").T} if same else
              {f"{name[0]}_proj_weight": w[f"{name}.weight"].T for name in ("query", "key", "value")})
    return inputs | {"in_proj_bias": w.beside("query", "key", "value", kind="bias"), "out_proj.weight": w["output.weight"].T,
                     "out_proj.bias": w["output.bias"]}


def multi_head_attention(w, x, memory=None, memory_index=None, n_heads=1, allowed=None):
    """allowed: boolean, True where attention is allowed, broadcasts to (R, H, T, S)."""
    source = x if memory is None else memory if memory_index is None else memory[memory_index]
    module = nn.MultiheadAttention(x.shape[-1], n_heads, batch_first=True, kdim=source.shape[-1], vdim=source.shape[-1])
    mask = None
    if allowed is not None:      # theirs is (R H, T, S), and True where attention is forbidden
        mask = torch.tensor(~np.broadcast_to(allowed, (len(x), n_heads, x.shape[1], source.shape[1]))).flatten(0, 1)
    return call(module, attention_weights(w), x, source, source, attn_mask=mask, need_weights=False)[0]


def joint_attention(w, x, memory, memory_index=None, n_heads=1, allowed=None):
    """Written out, as PyTorch has no such module."""
    def heads(y):
        return y.unflatten(-1, (n_heads, -1)).transpose(1, 2)                               # (R, H, T, K)

    memory = memory if memory_index is None else memory[memory_index]
    q = heads(linear(w.part("query"), x))
    k, v = (torch.cat([heads(linear(w.part(f"image_{name}"), memory)), heads(linear(w.part(name), x))], dim=2)
            for name in ("key", "value"))
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=None if allowed is None else torch.tensor(allowed))
    return linear(w.part("output"), out.transpose(1, 2).flatten(2))


def feed_forward(w, x, activation="gelu"):
    return linear(w.part("narrow"), getattr(F, activation)(linear(w.part("wide"), x)))


def gated_feed_forward(w, x):
    return linear(w.part("narrow"), F.silu(linear(w.part("gate"), x)) * linear(w.part("value"), x))


def residual(w, x, sublayer, norm="pre"):
    if norm == "pre":
        return x + sublayer(w.part("sublayer"), layer_norm(w.part("norm"), x))
    return layer_norm(w.part("norm"), x + sublayer(w.part("sublayer"), x))


def transformer_block(w, x, memory=None, memory_index=None, *, n_heads, fusion=None, norm="pre", activation="gelu", allowed=None,
                      memory_allowed=None):
    """nn.TransformerEncoderLayer, with cross-attention nn.TransformerDecoderLayer; the joint one is written out.

    allowed, memory_allowed: boolean (T, S), True where the first and the cross-attention are allowed.
    """
    if fusion == "joint":
        x = residual(w.part("attention"), x, norm=norm,
                     sublayer=lambda part, y: joint_attention(part, y, memory, memory_index, n_heads, allowed))
        return residual(w.part("feed_forward"), x, norm=norm, sublayer=lambda part, y: feed_forward(part, y, activation))
    sublayers = {"self_attn": w.part("attention"), "multihead_attn": w.part("cross_attention")}
    weights = {f"{theirs}.{name}": tensor for theirs, part in sublayers.items() if part
               for name, tensor in attention_weights(part.part("sublayer")).items()}
    for theirs, name in (("linear1", "wide"), ("linear2", "narrow")):
        weights |= {f"{theirs}.weight": w[f"feed_forward.sublayer.{name}.weight"].T,
                    f"{theirs}.bias": w[f"feed_forward.sublayer.{name}.bias"]}
    names = ("attention", "cross_attention", "feed_forward") if fusion == "cross" else ("attention", "feed_forward")
    for i, name in enumerate(names, 1):
        weights |= {f"norm{i}.weight": w[f"{name}.norm.gain"], f"norm{i}.bias": w[f"{name}.norm.bias"]}
    sizes = x.shape[-1], n_heads, weights["linear1.bias"].shape[0]
    options = {"dropout": 0.0, "activation": activation, "batch_first": True, "norm_first": norm == "pre"}
    mask, memory_mask = (None if a is None else torch.tensor(~a) for a in (allowed, memory_allowed))
    if fusion is None:
        return call(nn.TransformerEncoderLayer(*sizes, **options), weights, x, src_mask=mask)
    memory = memory if memory_index is None else memory[memory_index]
    return call(nn.TransformerDecoderLayer(*sizes, **options), weights, x, memory, tgt_mask=mask, memory_mask=memory_mask)
