"""Chapter 14, fusion: one way to solve the exercises."""

import numpy as np

from tinymm.functional import attention_backward, attention_forward


def product_gradient(left, d_out):
    return left.reshape(-1, left.shape[-1]).T @ d_out.reshape(-1, d_out.shape[-1])


def prefix_mask(N, T):
    place = np.arange(N + T)                                          # (N+T,)
    return (place < N) | (place <= place[:, None])                    # (N+T, N+T)


def image_share(scores_i, scores_t):
    highest = np.maximum(scores_i.max(axis=-1, keepdims=True), scores_t.max(axis=-1, keepdims=True))    # (..., T, 1)
    Z_i = np.exp(scores_i - highest).sum(axis=-1, keepdims=True)      # (..., T, 1)
    Z_t = np.exp(scores_t - highest).sum(axis=-1, keepdims=True)      # (..., T, 1)
    share = Z_i / (Z_i + Z_t)                                         # (..., T, 1)
    return share


def joint_attention_forward(x, image, W_q, W_kt, W_vt, W_ki, W_vi, W_o):
    N, T = image.shape[1], x.shape[1]
    q = x @ W_q                                                       # (B, T, D)
    k_t = x @ W_kt                                                    # (B, T, D)
    v_t = x @ W_vt                                                    # (B, T, D)
    k_i = image @ W_ki                                                # (B, N, D)
    v_i = image @ W_vi                                                # (B, N, D)
    k = np.concatenate([k_i, k_t], axis=1)                            # (B, N+T, D)
    v = np.concatenate([v_i, v_t], axis=1)                            # (B, N+T, D)
    mixed, attention = attention_forward(q, k, v, prefix_mask(N, T)[N:])    # (B, T, D)
    out = mixed @ W_o                                                 # (B, T, D)
    return out, (x, image, W_q, W_kt, W_vt, W_ki, W_vi, W_o, attention, mixed)


def joint_attention_backward(d_out, cache):
    x, image, W_q, W_kt, W_vt, W_ki, W_vi, W_o, attention, mixed = cache
    N = image.shape[1]
    d_W_o = product_gradient(mixed, d_out)                            # (D, D)
    d_mixed = d_out @ W_o.T                                           # (B, T, D)
    d_q, d_k, d_v = attention_backward(d_mixed, attention)            # (B, T, D), (B, N+T, D), (B, N+T, D)
    d_v_i, d_v_t = d_v[:, :N], d_v[:, N:]                             # (B, N, D), (B, T, D)
    d_k_i, d_k_t = d_k[:, :N], d_k[:, N:]                             # (B, N, D), (B, T, D)
    d_W_vi = product_gradient(image, d_v_i)                           # (C, D)
    d_W_ki = product_gradient(image, d_k_i)                           # (C, D)
    d_W_vt = product_gradient(x, d_v_t)                               # (D, D)
    d_W_kt = product_gradient(x, d_k_t)                               # (D, D)
    d_W_q = product_gradient(x, d_q)                                  # (D, D)
    d_image = d_k_i @ W_ki.T + d_v_i @ W_vi.T                         # (B, N, C)
    d_x = d_q @ W_q.T + d_k_t @ W_kt.T + d_v_t @ W_vt.T               # (B, T, D)
    return d_x, d_image, d_W_q, d_W_kt, d_W_vt, d_W_ki, d_W_vi, d_W_o


def concatenated_forward(x, image, W_q, W_k, W_v, W_o):
    N, T = image.shape[1], x.shape[1]
    sequence = np.concatenate([image, x], axis=1)                     # (B, N+T, D)
    mixed, attention = attention_forward(sequence @ W_q, sequence @ W_k, sequence @ W_v, prefix_mask(N, T))
    return mixed @ W_o, (sequence, N, W_q, W_k, W_v, W_o, attention, mixed)


def concatenated_backward(d_out, cache):
    sequence, N, W_q, W_k, W_v, W_o, attention, mixed = cache
    d_W_o = product_gradient(mixed, d_out)                            # (D, D)
    d_mixed = d_out @ W_o.T                                           # (B, N+T, D)
    d_q, d_k, d_v = attention_backward(d_mixed, attention)            # (B, N+T, D) each
    d_W_v = product_gradient(sequence, d_v)                           # (D, D)
    d_W_k = product_gradient(sequence, d_k)                           # (D, D)
    d_W_q = product_gradient(sequence, d_q)                           # (D, D)
    d_sequence = d_q @ W_q.T + d_k @ W_k.T + d_v @ W_v.T              # (B, N+T, D)
    d_image, d_x = d_sequence[:, :N], d_sequence[:, N:]               # (B, N, D), (B, T, D)
    return d_x, d_image, d_W_q, d_W_k, d_W_v, d_W_o
