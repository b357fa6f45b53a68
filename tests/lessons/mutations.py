"""Wrong answers: for the central exercise of each chapter ten mutations of its solution.

MUTATIONS[chapter] is (exercise number, [(the line's old text, its new text, the step that the checker must name), ...]). The old text
must occur in the function once.
"""

MUTATIONS = {
    1: (3, [
        ("x.reshape(-1, x.shape[-1])", "x[0]", "rows"),
        ("d_out.reshape(-1, d_out.shape[-1])", "2 * d_out.reshape(-1, d_out.shape[-1])", "d_rows"),
        ("d_rows.sum(axis=0)", "d_rows.mean(axis=0)", "d_bias"),
        ("d_rows.sum(axis=0)", "d_out.sum(axis=0)", "d_bias"),
        ("d_rows.sum(axis=0)", "d_rows[0]", "d_bias"),
        ("rows.T @ d_rows", "(d_rows.T @ rows)", "d_weight"),
        ("rows.T @ d_rows", "-rows.T @ d_rows", "d_weight"),
        ("rows.T @ d_rows", "rows.T @ d_rows / len(rows)", "d_weight"),
        ("d_out @ weight.T", "-(d_out @ weight.T)", "d_x"),
        ("d_out @ weight.T", "d_out @ np.abs(weight).T", "d_x"),
    ]),
    2: (5, [
        ("y = np.zeros(p.shape)", "y = np.ones(p.shape)", "y"),
        ("y[np.arange(N), labels] = 1", "y[:, labels] = 1", "y"),
        ("y[np.arange(N), labels] = 1", "y[np.arange(N), labels] = -1", "y"),
        ("y[np.arange(N), labels] = 1", "pass", "y"),
        ("d_loss * (p - y) / N", "d_loss * (y - p) / N", "d_logits"),
        ("d_loss * (p - y) / N", "(p - y) / N", "d_logits"),
        ("d_loss * (p - y) / N", "d_loss * (p - y)", "d_logits"),
        ("d_loss * (p - y) / N", "d_loss * (p - y) / p.size", "d_logits"),
        ("d_loss * (p - y) / N", "d_loss * p / N", "d_logits"),
        ("d_loss * (p - y) / N", "d_loss * p * (p - y) / N", "d_logits"),
    ]),
    3: (4, [
        ("beta1 * m + (1 - beta1) * g", "beta1 * m + g", "new_m"),
        ("beta1 * m + (1 - beta1) * g", "beta2 * m + (1 - beta2) * g", "new_m"),
        ("beta2 * v + (1 - beta2) * g**2", "beta2 * v + (1 - beta2) * g", "new_v"),
        ("beta2 * v + (1 - beta2) * g**2", "beta2 * v - (1 - beta2) * g**2", "new_v"),
        ("new_m / (1 - beta1**t)", "m / (1 - beta1**t)", "m_hat"),
        ("new_m / (1 - beta1**t)", "new_m / (1 - beta1)", "m_hat"),
        ("new_v / (1 - beta2**t)", "new_v", "v_hat"),
        ("m_hat / (np.sqrt(v_hat) + epsilon) + decay * w", "m_hat / np.sqrt(v_hat + epsilon) + decay * w", "step"),
        ("m_hat / (np.sqrt(v_hat) + epsilon) + decay * w", "(m_hat + decay * w) / (np.sqrt(v_hat) + epsilon)", "step"),
        ("w - rate * step", "w + rate * step", "new_w"),
    ]),
    6: (4, [
        ("d_out @ v.swapaxes(-1, -2)", "-d_out @ v.swapaxes(-1, -2)", "d_weights"),
        ("weights.swapaxes(-1, -2) @ d_out", "weights.swapaxes(-1, -2) @ d_out / 4", "d_v"),
        ("(weights * d_weights).sum(axis=-1, keepdims=True)", "(weights * d_weights).mean(axis=-1, keepdims=True)", "mean"),
        ("(weights * d_weights).sum(axis=-1, keepdims=True)", "(weights * d_weights).sum(axis=-2, keepdims=True)", "mean"),
        ("(weights * d_weights).sum(axis=-1, keepdims=True)", "d_weights.sum(axis=-1, keepdims=True)", "mean"),
        ("weights * (d_weights - mean)", "weights * d_weights", "d_scores"),
        ("weights * (d_weights - mean)", "d_weights - mean", "d_scores"),
        ("weights * (d_weights - mean)", "weights * (d_weights + mean)", "d_scores"),
        ("d_scores @ k / np.sqrt(d)", "d_scores @ k", "d_q"),
        ("d_scores.swapaxes(-1, -2) @ q / np.sqrt(d)", "d_scores.swapaxes(-1, -2) @ q / d", "d_k"),
    ]),
    7: (4, [
        ("merged.reshape(-1, D).T @ d_out.reshape(-1, D)", "x.reshape(-1, D).T @ d_out.reshape(-1, D)", "d_W_o"),
        ("merged.reshape(-1, D).T @ d_out.reshape(-1, D)", "d_out.reshape(-1, D).T @ merged.reshape(-1, D)", "d_W_o"),
        ("d_out @ W_o.T", "d_out @ W_o", "d_merged"),
        ("split_heads(d_merged, n_heads)", "d_merged.reshape(*d_merged.shape[:2], n_heads, -1).reshape(attention.q.shape)", "d_mixed"),
        ("merge_heads(d_heads[0])", "merge_heads(d_heads[1])", "d_q"),
        ("merge_heads(d_heads[1])", "-merge_heads(d_heads[1])", "d_k"),
        ("merge_heads(d_heads[2])", "merge_heads(d_heads[2]) / n_heads", "d_v"),
        ("x.reshape(-1, D).T @ d_k.reshape(-1, D)", "(x.swapaxes(1, 2) @ d_k)[0]", "d_W_k"),
        ("d_q @ W_q.T + d_k @ W_k.T + d_v @ W_v.T", "d_v @ W_v.T", "d_x"),
        ("d_q @ W_q.T + d_k @ W_k.T + d_v @ W_v.T", "d_q @ W_q + d_k @ W_k + d_v @ W_v", "d_x"),
    ]),
}
