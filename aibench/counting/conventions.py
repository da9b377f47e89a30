"""The two counting conventions, in words.

`aiperf_ops` (for the score), rule set ``aiperf-v1``
    Weighted operations per image, as the reference implementation of AIPerf v1.0 counts them. The texts of
    ITU-T F.748.18 and T/AI 118 are not public; the reference implementation is, and this follows it.

    Unit weights: add 1, multiply 1, multiply-accumulate 2, compare 1, divide 4, square root 4, exponential
    8, logarithm 1, sine 1. With k kernel side, C input and M output channels, H×W output side, g groups:

    ==================  =======================================  =======================================
    layer               forward                                  backward
    ==================  =======================================  =======================================
    convolution         2·H·W·k²·(C/g)·M, bias not counted       first of the network
                                                                 k²·(C/g)·M·(2·H·W + 2), every other
                                                                 k²·(C/g)·M·(4·H·W + 2)
    dense, softmax      2·C·M + 8·M + (M - 1) + 4·M              4·C·M + 2·(C + 1)·M
    batch norm          7 per input element                      36 per layer
    ReLU                1 per element                            0
    add                 1 per element and input after the first  0
    max pool            input elements · k² / stride²            0
    global avg. pool    (H·W - 1)·C + 4·C of the input           0
    others              0                                        0
    ==================  =======================================  =======================================

    Training = forward + backward, evaluation = forward.

    Oddities of v1, kept so that scores stay comparable: the constant 36 of a batch norm's backward (29 per
    element + 7 per channel was probably meant: +1.33 % on ResNet-50) and the weight update charged once per
    image (0.22 %).

    Generalised by us, because v1 has neither: non-square maps (H·W for H²), grouped convolutions (C/g for
    C), sums of more than two inputs (n - 1 additions), and windows whose k²·elements is no multiple of
    stride² (rounded down).

`tensor_flops` (for efficiency)
    Convolutions and matrix products only; one multiply-add is 2; model operations without recomputation,
    as in MLPerf's appendix. Forward of a convolution: 2·H·W·k²·(C/g)·M; of a dense layer: 2·C·M. Backward:
    the weight gradient costs the same again, the input gradient the same again unless no parameter lies
    before the layer, so that no gradient is asked for.
"""

RULES_VERSION = "aiperf-v1"
