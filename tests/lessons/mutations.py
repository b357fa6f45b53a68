"""Wrong answers: for the central exercise of each chapter ten mutations of its solution.

MUTATIONS[chapter] is (exercise number, [(the line's old text, its new text, the step that the checker must name), ...]). The old text
must occur in the function once.
"""

MUTATIONS = {
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
}
