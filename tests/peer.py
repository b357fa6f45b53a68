"""A layer or model beside its twin in PyTorch: the same weights must give the same results and the same gradients.

The twin gets our weights as tensors under our names and in our layout, and hands them, turned as PyTorch wants them, to a
module of `torch.nn` (`call`) or to PyTorch's functions. So PyTorch's gradients come back under our names, and `compare`
can look at every one of them. Importing this file skips the tests where PyTorch is not installed.
"""

from itertools import count, product, takewhile

import numpy as np
import pytest

from tinymm import functional
from tinymm.layers import Module

torch = pytest.importorskip("torch")
F, nn = torch.nn.functional, torch.nn

PAD = 0     # the id of <pad>


class Weights(dict):
    """Tensors by the dotted names of our parameters and running statistics."""

    def part(self, prefix):
        """What belongs to one of the sub-modules."""
        return Weights({name[len(prefix) + 1:]: tensor for name, tensor in self.items() if name.startswith(prefix + ".")})

    def beside(self, *names, kind="weight"):
        """The weights (or biases) of several linear maps as a single one: (D_in, sum of the D_out)."""
        return torch.cat([self[f"{name}.{kind}"] for name in names], dim=-1)

    def as_linear(self, theirs, *names):
        """Several of our linear maps as one of PyTorch's, whose weight is (D_out, D_in), under its name."""
        weights = {f"{theirs}.weight": self.beside(*names).T}
        return weights | ({f"{theirs}.bias": self.beside(*names, kind="bias")} if f"{names[0]}.bias" in self else {})

    def as_norm(self, theirs, name):
        """A layer norm (or an RMS norm, which has no bias) under the name of PyTorch's."""
        norm = self.part(name)
        return {f"{theirs}.weight": norm["gain"]} | ({f"{theirs}.bias": norm["bias"]} if "bias" in norm else {})


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
        # Two zeros agree whatever the backward does. One is right: a bias of the keys adds the same to all scores of a query.
        assert weights[name].grad.abs().max() > 1e-6 or name.endswith("key.bias"), f"gradient of {name}: nothing to compare"
    for name, statistic in layer.named_buffers():
        agree(name, statistic, weights[name])


def agree(name, ours, theirs):
    """Every entry to a relative error of 1e-10, or of 1e-12 beside the array's largest."""
    assert theirs is not None, f"{name}: PyTorch has none"
    theirs = theirs.detach().numpy()
    largest = np.abs(theirs).max()
    scale = largest if largest > 1e-9 else 1.0     # what should be 0 is what rounding leaves of numbers of order 1
    np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-12 * scale, err_msg=name)


class Loss(Module):
    """A model and its loss as one, as in training: `compare` gives it any number as the upstream gradient.

    name: of a pair in `tinymm.functional`; targets, options: what its forward takes after the logits. To the twin, the
    model's weights are `part("model")`.
    """

    def __init__(self, model, name, *targets, **options):
        self.model, self.targets, self.options = model, targets, options
        self.loss_forward, self.loss_backward = (getattr(functional, f"{name}_{way}") for way in ("forward", "backward"))

    def forward(self, **inputs):
        logits, cache = self.model.forward(**inputs)
        loss, loss_cache = self.loss_forward(logits, *self.targets, **self.options)
        return loss, (cache, loss_cache)

    def backward(self, d_loss, caches):
        cache, loss_cache = caches
        return self.model.backward(self.loss_backward(d_loss, loss_cache), cache)


def every_choice(**choices):
    """A test is run with each combination of these options of a configuration; it takes them as `options`."""
    combinations = [dict(zip(choices, values)) for values in product(*choices.values())]
    return pytest.mark.parametrize("options", combinations, ids=lambda options: ", ".join(f"{value}" for value in options.values()))


def padded_texts(rng, lengths, vocabulary_size):
    """Random token ids (R, T), each text padded at the right."""
    real = np.arange(max(lengths)) < np.array(lengths)[:, None]
    return np.where(real, rng.integers(PAD + 1, vocabulary_size, size=real.shape), PAD)


def real_lengths(ids):
    return (ids != PAD).sum(dim=1)


def mean_of_real(x, ids):
    """(R, T, D) -> (R, D): what stands at padding is not in the mean."""
    return torch.stack([row[:length].mean(dim=0) for row, length in zip(x, real_lengths(ids))])


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


def rms_norm(w, x):
    return F.rms_norm(x, x.shape[-1:], w["gain"], eps=1e-5)


def vector_norm(w, x):
    """Layer norm or RMS norm: only the first has a bias."""
    return (layer_norm if "bias" in w else rms_norm)(w, x)


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
    packed = nn.utils.rnn.pack_padded_sequence(x, torch.as_tensor(lengths), batch_first=True)
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
    mask = forbidden(allowed, x, source, n_heads)
    return call(module, attention_weights(w), x, source, source, attn_mask=mask, need_weights=False)[0]


def forbidden(allowed, x, source, n_heads):
    """The mask of nn.MultiheadAttention: (R H, T, S), True where attention is forbidden."""
    if allowed is None:
        return None
    return ~torch.as_tensor(allowed).broadcast_to(len(x), n_heads, x.shape[1], source.shape[1]).flatten(0, 1)


def joint_attention(w, x, memory, memory_index=None, n_heads=1, allowed=None):
    memory = memory if memory_index is None else memory[memory_index]
    q = project_heads(w.part("query"), x, n_heads)
    k, v = (torch.cat([project_heads(w.part(f"image_{name}"), memory, n_heads), project_heads(w.part(name), x, n_heads)], dim=2)
            for name in ("key", "value"))
    return attend(w, q, k, v, allowed)


def rotary_attention(w, x, n_heads=1, allowed=None):
    q, k, v = (project_heads(w.part(name), x, n_heads) for name in ("query", "key", "value"))
    return attend(w, rotary(q), rotary(k), v, allowed)


def project_heads(w, x, n_heads):
    """(R, T, D) -> (R, H, T, K), for the two kinds of attention of which PyTorch has no module."""
    return linear(w, x).unflatten(-1, (n_heads, -1)).transpose(1, 2)


def attend(w, q, k, v, allowed):
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=None if allowed is None else torch.as_tensor(allowed))
    return linear(w.part("output"), out.transpose(1, 2).flatten(2))


def rotary(x):
    """The rotation as a product of complex numbers: (x_2i + i x_2i+1) e^(i t 10000^(-2i/K))."""
    angle = place_angles(*x.shape[-2:])
    turned = torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous()) * torch.polar(torch.ones_like(angle), angle)
    return torch.view_as_real(turned).flatten(-2)


def sinusoidal_positions(length, width):
    """Sine and cosine as the parts of e^(i t 10000^(-2i/D)): (T, D) for an even D."""
    angle = place_angles(length, width)
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(-2)


def place_angles(length, width):
    return torch.outer(torch.arange(length).double(), 10000.0 ** (-torch.arange(0, width, 2).double() / width))


def feed_forward(w, x, activation="gelu"):
    return linear(w.part("narrow"), getattr(F, activation)(linear(w.part("wide"), x)))


def gated_feed_forward(w, x):
    return linear(w.part("narrow"), F.silu(linear(w.part("gate"), x)) * linear(w.part("value"), x))


def residual(w, x, sublayer, norm="pre"):
    if norm == "pre":
        return x + sublayer(w.part("sublayer"), vector_norm(w.part("norm"), x))
    return vector_norm(w.part("norm"), x + sublayer(w.part("sublayer"), x))


def transformer_block(w, x, memory=None, memory_index=None, *, n_heads, fusion=None, norm="pre", activation="gelu", rotary=False,
                      allowed=None, memory_allowed=None):
    """nn.TransformerEncoderLayer, with cross-attention nn.TransformerDecoderLayer; what they do not offer is written out.

    allowed, memory_allowed: boolean, True where the first and the cross-attention are allowed; broadcast to (R, H, T, S).
    """
    if fusion == "joint" or rotary or activation == "swiglu" or "attention.norm.bias" not in w:
        return written_out_block(w, x, memory, memory_index, n_heads, norm, activation, rotary, allowed)
    sublayers = {"self_attn": w.part("attention"), "multihead_attn": w.part("cross_attention")}
    weights = {f"{theirs}.{name}": tensor for theirs, part in sublayers.items() if part
               for name, tensor in attention_weights(part.part("sublayer")).items()}
    weights |= w.as_linear("linear1", "feed_forward.sublayer.wide") | w.as_linear("linear2", "feed_forward.sublayer.narrow")
    names = ("attention", "cross_attention", "feed_forward") if fusion == "cross" else ("attention", "feed_forward")
    for i, name in enumerate(names, 1):
        weights |= w.as_norm(f"norm{i}", f"{name}.norm")
    sizes = x.shape[-1], n_heads, weights["linear1.bias"].shape[0]
    options = {"dropout": 0.0, "activation": activation, "batch_first": True, "norm_first": norm == "pre"}
    mask = forbidden(allowed, x, x, n_heads)
    if fusion is None:
        return call(nn.TransformerEncoderLayer(*sizes, **options), weights, x, src_mask=mask)
    memory = memory if memory_index is None else memory[memory_index]
    return call(nn.TransformerDecoderLayer(*sizes, **options), weights, x, memory, tgt_mask=mask,
                memory_mask=forbidden(memory_allowed, x, memory, n_heads))


def written_out_block(w, x, memory, memory_index, n_heads, norm, activation, rotary, allowed):
    """With joint attention (where there is a memory), rotary positions, RMS norm or SwiGLU."""
    def attention(part, y):
        if memory is not None:
            return joint_attention(part, y, memory, memory_index, n_heads, allowed)
        return (rotary_attention if rotary else multi_head_attention)(part, y, n_heads=n_heads, allowed=allowed)

    def wide(part, y):
        return gated_feed_forward(part, y) if activation == "swiglu" else feed_forward(part, y, activation)

    return residual(w.part("feed_forward"), residual(w.part("attention"), x, attention, norm), wide, norm)


# ---- what several models share ----------------------------------------------------------------------------------------


def transformer_blocks(w, x, *memory, **options):
    """All blocks of a list, as many as there are weights of."""
    for block in takewhile(bool, (w.part(str(i)) for i in count())):
        x = transformer_block(block, x, *memory, **options)
    return x


def words_and_positions(w, ids):
    return F.embedding(ids, w["words.weight"]) + w["positions.weight"][:ids.shape[1]]


def bert_encoder(w, ids, config, *memory):
    """memory: the tokens that each block looks at, and which of them each text is about."""
    x = words_and_positions(w, ids)
    if config.norm == "post":
        x = layer_norm(w.part("norm"), x)
    x = transformer_blocks(w.part("blocks"), x, *memory, n_heads=config.n_heads, norm=config.norm, fusion="cross" if memory else None,
                           allowed=(ids != PAD)[:, None, None])
    return layer_norm(w.part("norm"), x) if config.norm == "pre" else x
