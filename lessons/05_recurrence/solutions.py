"""Chapter 5, recurrence: one way to solve the exercises."""

import numpy as np


def sigmoid(z):
    return 0.5 * (1 + np.tanh(z / 2))


def rnn_forward(x, weight_x, weight_h, bias):
    B, T, _ = x.shape
    states = np.zeros((B, T + 1, len(weight_h)), x.dtype)            # (B, T + 1, D)
    for t in range(T):
        z = x[:, t] @ weight_x + states[:, t] @ weight_h + bias      # (B, D)
        states[:, t + 1] = np.tanh(z)                                # (B, D)
    return states[:, 1:], (x, states, weight_x, weight_h)


def rnn_backward(d_out, cache):
    x, states, weight_x, weight_h = cache
    d_z = from_next = np.zeros_like(states[:, 0])                    # (B, D)  nothing comes after the last word
    d_x = np.zeros_like(x)                                           # (B, T, E)
    d_weight_x = np.zeros_like(weight_x)                             # (E, D)
    d_weight_h = np.zeros_like(weight_h)                             # (D, D)
    d_bias = np.zeros_like(weight_h[0])                              # (D,)
    for t in reversed(range(x.shape[1])):
        d_z = (d_out[:, t] + from_next) * (1 - states[:, t + 1]**2)  # (B, D)  the bracket is d_h
        d_x[:, t] = d_z @ weight_x.T                                 # (B, E)
        d_weight_x += x[:, t].T @ d_z                                # (E, D)
        d_weight_h += states[:, t].T @ d_z                           # (D, D)
        d_bias += d_z.sum(axis=0)                                    # (D,)
        from_next = d_z @ weight_h.T                                 # (B, D)
    return d_x, d_weight_x, d_weight_h, d_bias


def lstm_cell_forward(x, h, c, weight_x, weight_h, bias):
    D = h.shape[-1]
    z = x @ weight_x + h @ weight_h + bias                           # (B, 4 D)
    i = sigmoid(z[:, :D])                                            # (B, D)
    f = sigmoid(z[:, D:2 * D])                                       # (B, D)
    g = np.tanh(z[:, 2 * D:3 * D])                                   # (B, D)
    o = sigmoid(z[:, 3 * D:])                                        # (B, D)
    new_c = f * c + i * g                                            # (B, D)
    tanh_c = np.tanh(new_c)                                          # (B, D)
    new_h = o * tanh_c                                               # (B, D)
    return (new_h, new_c), (x, h, c, weight_x, weight_h, i, f, g, o, tanh_c)


def lstm_cell_backward(d_out, cache):
    x, h, c, weight_x, weight_h, i, f, g, o, tanh_c = cache
    d_new_h, d_new_c = d_out
    d_o = d_new_h * tanh_c                                           # (B, D)
    d_memory = d_new_c + d_new_h * o * (1 - tanh_c**2)               # (B, D)
    d_f = d_memory * c                                               # (B, D)
    d_c = d_memory * f                                               # (B, D)
    d_i = d_memory * g                                               # (B, D)
    d_g = d_memory * i                                               # (B, D)
    d_z = np.concatenate([d_i * i * (1 - i), d_f * f * (1 - f),
                          d_g * (1 - g**2), d_o * o * (1 - o)], axis=-1)       # (B, 4 D)
    d_x = d_z @ weight_x.T                                           # (B, E)
    d_h = d_z @ weight_h.T                                           # (B, D)
    d_weight_x = x.T @ d_z                                           # (E, 4 D)
    d_weight_h = h.T @ d_z                                           # (D, 4 D)
    d_bias = d_z.sum(axis=0)                                         # (4 D,)
    return d_x, d_h, d_c, d_weight_x, d_weight_h, d_bias


def binary_cross_entropy_forward(logits, targets):
    positive = np.maximum(logits, 0)                                 # (N,)
    log_sum = np.log1p(np.exp(-np.abs(logits)))                      # (N,)
    losses = positive - logits * targets + log_sum                   # (N,)
    loss = losses.mean()                                             # ()
    return loss, (logits, targets)


def binary_cross_entropy_backward(d_loss, cache):
    logits, targets = cache
    p = sigmoid(logits)                                              # (N,)
    d_logits = d_loss * (p - targets) / len(logits)                  # (N,)
    return d_logits
