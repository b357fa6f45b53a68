"""Chapter 7, heads and positions: one way to solve the exercises."""

import numpy as np

from tinymm.functional import attention_backward, attention_forward


def split_heads(x, n_heads):
    B, T, D = x.shape
    return x.reshape(B, T, n_heads, D // n_heads).transpose(0, 2, 1, 3)   # (B, H, T, K)


def merge_heads(x):
    B, H, T, K = x.shape
    return x.transpose(0, 2, 1, 3).reshape(B, T, H * K)                   # (B, T, D)


def multi_head_forward(x, W_q, W_k, W_v, W_o, n_heads):
    q = split_heads(x @ W_q, n_heads)                                     # (B, H, T, K)
    k = split_heads(x @ W_k, n_heads)                                     # (B, H, T, K)
    v = split_heads(x @ W_v, n_heads)                                     # (B, H, T, K)
    mixed, attention = attention_forward(q, k, v)                         # (B, H, T, K)
    merged = merge_heads(mixed)                                           # (B, T, D)
    out = merged @ W_o                                                    # (B, T, D)
    return out, (x, W_q, W_k, W_v, W_o, n_heads, attention, merged)


def multi_head_backward(d_out, cache):
    x, W_q, W_k, W_v, W_o, n_heads, attention, merged = cache
    D = x.shape[-1]
    d_W_o = merged.reshape(-1, D).T @ d_out.reshape(-1, D)                # (D, D)
    d_merged = d_out @ W_o.T                                              # (B, T, D)
    d_mixed = split_heads(d_merged, n_heads)                              # (B, H, T, K)
    d_heads = attention_backward(d_mixed, attention)                      # (B, H, T, K), three times
    d_q = merge_heads(d_heads[0])                                         # (B, T, D)
    d_k = merge_heads(d_heads[1])                                         # (B, T, D)
    d_v = merge_heads(d_heads[2])                                         # (B, T, D)
    d_W_q = x.reshape(-1, D).T @ d_q.reshape(-1, D)                       # (D, D)
    d_W_k = x.reshape(-1, D).T @ d_k.reshape(-1, D)                       # (D, D)
    d_W_v = x.reshape(-1, D).T @ d_v.reshape(-1, D)                       # (D, D)
    d_x = d_q @ W_q.T + d_k @ W_k.T + d_v @ W_v.T                         # (B, T, D)
    return d_x, d_W_q, d_W_k, d_W_v, d_W_o


def sinusoidal_positions(T, D):
    angle = np.arange(T)[:, None] / 10000 ** (np.arange(0, D, 2) / D)     # (T, D/2)
    positions = np.zeros((T, D))                                          # (T, D)
    positions[:, 0::2] = np.sin(angle)
    positions[:, 1::2] = np.cos(angle)
    return positions


def rotary_forward(x):
    T, K = x.shape[-2:]
    angle = np.arange(T)[:, None] * 10000 ** (-np.arange(0, K, 2) / K)    # (T, K/2)
    even, odd = x[..., 0::2], x[..., 1::2]                                # (..., T, K/2)
    out = np.empty_like(x)                                                # (..., T, K)
    out[..., 0::2] = even * np.cos(angle) - odd * np.sin(angle)
    out[..., 1::2] = even * np.sin(angle) + odd * np.cos(angle)
    return out, None


def rotary_backward(d_out, cache):
    T, K = d_out.shape[-2:]
    angle = np.arange(T)[:, None] * 10000 ** (-np.arange(0, K, 2) / K)    # (T, K/2)
    even, odd = d_out[..., 0::2], d_out[..., 1::2]                        # (..., T, K/2)
    d_x = np.empty_like(d_out)                                            # (..., T, K)
    d_x[..., 0::2] = even * np.cos(angle) + odd * np.sin(angle)
    d_x[..., 1::2] = odd * np.cos(angle) - even * np.sin(angle)
    return d_x
