"""Valid models of rarer operators: transforms of signals, sampled images, classic models."""

from __future__ import annotations

import numpy as np

from .case import valid


@valid(sets=[{"n": 2}, {"n": 1}], opset=20, onnxruntime=False)
def dft_lengths():
    """Lengths that are one product, two of them, and a prime; back from a half."""
    return """(float[n, 30, 1] x, float[n, 96, 2] y, float[n, 210, 1] z, float[n, 67, 1] p) => (float[n, 16, 2] half, float[n, 30, 1] back, float[n, 96, 2] inverse, float[n, 210, 2] long, float[n, 67, 2] prime)
    <int64 axis = {1}>
    { half = DFT <onesided = 1> (x, "", axis)
      back = DFT <onesided = 1, inverse = 1> (half, "", axis)
      inverse = DFT <inverse = 1> (y, "", axis)
      long = DFT(z, "", axis)
      prime = DFT(p) }"""


@valid(sets=[{"n": 2, "t": 100}, {"n": 1, "t": 40}], opset=17, oracle="onnxruntime")
def spectrogram():
    """Windowed transforms, their energy in bands of the mel scale, and its logarithm."""
    return """(float[n, t, 1] signal) => (float[n, frames, 6] bands)
    <int64 step = {10}, int64 length = {32}, int64 count = {6}, int64 rate = {8000}, float low = {0.0}, float high = {4000.0}, float tiny = {0.001}, int64[1] last = {-1}>
    { window = HannWindow(length)
      spectrum = STFT(signal, step, window, length)
      squares = Mul(spectrum, spectrum)
      energy = ReduceSum <keepdims = 0> (squares, last)
      weights = MelWeightMatrix(count, length, rate, low, high)
      mel = MatMul(energy, weights)
      raised = Add(mel, tiny)
      bands = Log(raised) }"""


def boxes(count: int, seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    start = generator.uniform(-2, 10, (count, 2))
    return np.concatenate([start, start + generator.uniform(0.5, 14, (count, 2))], axis=1).astype(np.float32)


@valid(
    sets=[
        {"n": 2, "r": 3, "h": 9, "w": 11, "rois": boxes(3, 1), "batch": np.array([1, 0, 1])},
        {"n": 1, "r": 1, "h": 5, "w": 4, "rois": boxes(1, 2), "batch": np.array([0])},
    ],
    opset=16,
)
def roi_align_modes():
    """Boxes sampled as often as their size asks for, and twice along each axis; the mean and the largest."""
    return """(float[n, 2, h, w] x, float[r, 4] rois, int64[r] batch) => (float[r, 2, 2, 3] mean, float[r, 2, 2, 2] largest)
    { mean = RoiAlign <output_height = 2, output_width = 3, spatial_scale = 0.5> (x, rois, batch)
      largest = RoiAlign <mode = "max", output_height = 2, output_width = 2, sampling_ratio = 2, coordinate_transformation_mode = "output_half_pixel"> (x, rois, batch) }"""


@valid(sets=[{"n": 2}, {"n": 1}], opset=12, onnxruntime=False)
def unpool_what_was_pooled():
    """The places of maxima lead back to where they were. In a larger image, they count the elements of the smaller one, as in
    ONNX's own tests; onnxruntime counts those of the larger one."""
    return """(float[n, 2, 6, 4] x) => (float[n, 2, 6, 4] y, float[n, 2, 7, 4] z)
    <int64[1] rows = {7}, int64[1] columns = {4}, int64[1] start = {0}, int64[1] end = {2}>
    { pooled, places = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (x)
      y = MaxUnpool <kernel_shape = [2, 2], strides = [2, 2]> (pooled, places)
      shape = Shape(x)
      outer = Slice(shape, start, end)
      wanted = Concat <axis = 0> (outer, rows, columns)
      z = MaxUnpool <kernel_shape = [2, 2], strides = [2, 2]> (pooled, places, wanted) }"""


@valid(sets=[{"n": 2, "h": 6, "w": 7, "i": 5, "j": 5}, {"n": 1, "h": 3, "w": 4, "i": 2, "j": 2}], opset=19)
def deform_conv_groups():
    """Two groups of weights and two of offsets, with a mask and a bias; that `i` is `h - 1` follows from the rest."""
    return """(float[n, 4, h, w] x, float[n, 24, i, j] offset, float[n, 12, i, j] mask) => (float[n, 4, i, j] y)
    <float[4, 2, 2, 3] weights, float[4] bias>
    { y = DeformConv <group = 2, offset_group = 2> (x, weights, offset, bias, mask) }"""


@valid(sets=[{"n": 3}, {"n": 1}], opset=11)
def determinants():
    """Of matrices of odd and even size, of which there are several."""
    return """(float[n, 3, 3] x, float[8, 8] y) => (float[n] a, float b)
    { a = Det(x)
      b = Det(y) }"""


@valid(sets=[{"n": 3, "t": 20}, {"n": 1, "t": 2}], opset=9, ir=4)
def ngram_counts():
    """Numbers and pairs of them, which may be one apart."""
    return """(int64[n, t] x) => (float[n, 5] y)
    { y = TfIdfVectorizer <mode = "TFIDF", min_gram_length = 1, max_gram_length = 2, max_skip_count = 1, ngram_counts = [0, 2],
          ngram_indexes = [0, 1, 2, 3, 4], pool_int64s = [2, 9, 2, 3, 0, 0, 7, 1], weights = [0.5, 1.0, 2.0, 3.0, 4.0]> (x) }"""


FOREST = """nodes_treeids = [0, 0, 0, 0, 0, 1, 1, 1], nodes_nodeids = [0, 1, 2, 3, 4, 0, 1, 2], nodes_featureids = [0, 1, 0, 0, 0, 2, 0, 0],
          nodes_values = [0.25, -0.5, 0.0, 0.0, 0.0, 0.125, 0.0, 0.0],
          nodes_modes = ["BRANCH_LEQ", "BRANCH_LEQ", "LEAF", "LEAF", "LEAF", "BRANCH_LEQ", "LEAF", "LEAF"],
          nodes_truenodeids = [1, 3, 0, 0, 0, 1, 0, 0], nodes_falsenodeids = [2, 4, 0, 0, 0, 2, 0, 0]"""


@valid(sets=[{"n": 9}, {"n": 1}], opset=21, imports='"ai.onnx.ml" : 3', oracle="onnxruntime")
def classic_models():
    """Scaled and normalised features into trees and linear models, with labels that are looked up in a table."""
    return f"""(float[n, 3] x) => (float[n, 2] trees, int64[n] label, float[n, 3] scores, int64[n] other, float[n, 2] chances, float[n] coded)
    {{ scaled = ai.onnx.ml.Scaler <offset = [0.1, 0.2, 0.3], scale = [1.5, 1.5, 0.5]> (x)
      normal = ai.onnx.ml.Normalizer <norm = "L2"> (scaled)
      trees = ai.onnx.ml.TreeEnsembleRegressor <n_targets = 2, base_values = [0.5, -0.5], {FOREST},
          target_treeids = [0, 0, 0, 1, 1, 1, 1], target_nodeids = [2, 3, 4, 1, 1, 2, 2], target_ids = [0, 1, 0, 0, 1, 0, 1], target_weights = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]> (scaled)
      label, scores = ai.onnx.ml.TreeEnsembleClassifier <classlabels_int64s = [7, 8, 9], post_transform = "SOFTMAX", {FOREST},
          class_treeids = [0, 0, 0, 1, 1], class_nodeids = [2, 3, 4, 1, 2], class_ids = [0, 1, 2, 1, 0], class_weights = [1.0, 2.0, 3.0, 0.5, 1.5]> (scaled)
      other, chances = ai.onnx.ml.LinearClassifier <classlabels_ints = [0, 1], coefficients = [0.5, -1.0, 2.0], intercepts = [0.25], post_transform = "LOGISTIC"> (normal)
      coded = ai.onnx.ml.LabelEncoder <keys_int64s = [7, 9], values_floats = [0.75, 0.25], default_float = -1.0> (label) }}"""



VECTORS = "support_vectors = [0.5, -1.0, 0.25, 1.5, 0.0, -0.75, -0.5, 1.0, 0.125, 0.75, -0.25, 1.25, -1.5, 0.5, 0.375]"


@valid(
    sets=[{"n": 9}, {"n": 1}],
    opset=21,
    imports='"ai.onnx.ml" : 3',
    oracle="onnxruntime",
)
def support_vector_machines():
    """Machines with each kernel: values, one class, votes of three classes and of two."""
    return f"""(float[n, 3] x) => (float[n, 1] linear, float[n, 1] poly, float[n, 1] rbf, float[n, 1] sigmoid, float[n, 1] inside, float[n, 1] plain, int64[n] voted, float[n, 3] sums, int64[n] one, int64[n] other, float[n, 2] scores, float[n, 2] shares)
    {{ linear = ai.onnx.ml.SVMRegressor <kernel_type = "LINEAR", kernel_params = [0.5, 0.25, 2.0], n_supports = 5, coefficients = [1.0, -0.5, 0.25, 0.75, -1.25], rho = [0.5], {VECTORS}> (x)
      poly = ai.onnx.ml.SVMRegressor <kernel_type = "POLY", kernel_params = [0.5, 0.25, 3.0], n_supports = 5, coefficients = [1.0, -0.5, 0.25, 0.75, -1.25], rho = [0.5], {VECTORS}> (x)
      rbf = ai.onnx.ml.SVMRegressor <kernel_type = "RBF", kernel_params = [0.5, 0.25, 3.0], n_supports = 5, coefficients = [1.0, -0.5, 0.25, 0.75, -1.25], rho = [0.5], {VECTORS}> (x)
      sigmoid = ai.onnx.ml.SVMRegressor <kernel_type = "SIGMOID", kernel_params = [0.5, 0.25, 3.0], n_supports = 5, coefficients = [1.0, -0.5, 0.25, 0.75, -1.25], rho = [0.5], {VECTORS}> (x)
      inside = ai.onnx.ml.SVMRegressor <kernel_type = "RBF", kernel_params = [0.5, 0.0, 3.0], n_supports = 5, coefficients = [1.0, 0.5, 0.25, 0.75, 1.25], rho = [-1.0], one_class = 1, {VECTORS}> (x)
      plain = ai.onnx.ml.SVMRegressor <kernel_type = "LINEAR", kernel_params = [0.0, 0.0, 3.0], coefficients = [1.0, -0.5, 0.25], rho = [0.5]> (x)
      voted, sums = ai.onnx.ml.SVMClassifier <kernel_type = "RBF", kernel_params = [0.5, 0.0, 3.0], classlabels_ints = [3, 5, 4], vectors_per_class = [2, 1, 2], coefficients = [1.0, 0.5, -0.75, -0.25, -1.0, 0.25, 0.75, 0.5, -1.5, -0.5], rho = [0.1, -0.2, 0.05], {VECTORS}> (x)
      one, chances = ai.onnx.ml.SVMClassifier <kernel_type = "RBF", kernel_params = [0.5, 0.0, 3.0], classlabels_ints = [7, 2], vectors_per_class = [2, 3], coefficients = [1.0, 0.5, -0.75, -0.25, -1.0], rho = [0.1], prob_a = [-1.5], prob_b = [0.25], {VECTORS}> (x)
      other, scores = ai.onnx.ml.SVMClassifier <kernel_type = "POLY", kernel_params = [0.5, 1.0, 2.0], classlabels_ints = [0, 1], vectors_per_class = [2, 3], coefficients = [1.0, 0.5, -0.75, -0.25, -1.0], rho = [0.1], {VECTORS}> (x)
      more, shares = ai.onnx.ml.SVMClassifier <kernel_type = "LINEAR", kernel_params = [0.0, 0.0, 3.0], classlabels_ints = [0, 1], vectors_per_class = [2, 3], coefficients = [1.0, 0.5, -0.75, -0.25, -1.0], rho = [0.1], post_transform = "LOGISTIC", {VECTORS}> (x) }}"""


@valid(
    sets=[
        {"n": 3, "x": np.array([[1.5, np.nan], [np.nan, 2.0], [0.0, -1.0]], np.float32), "y": np.array([[4, 0], [7, -1], [0, 2]])},
        {"n": 1, "x": np.array([[np.nan, np.nan]], np.float32), "y": np.array([[-1, 4]])},
    ],
    opset=21,
    imports='"ai.onnx.ml" : 3',
    oracle="onnxruntime",
)
def features_of_classic_models():
    """Numbers in place of missing ones, a row for each category, and columns beside each other."""
    return """(float[n, 2] x, int64[n, 2] y) => (float[n, 2] filled, int64[n, 2] whole, float[n, 2, 3] coded, float[n, 4] beside)
    { filled = ai.onnx.ml.Imputer <imputed_value_floats = [0.5, -0.25], replaced_value_float = nan> (x)
      whole = ai.onnx.ml.Imputer <imputed_value_int64s = [9], replaced_value_int64 = -1> (y)
      coded = ai.onnx.ml.OneHotEncoder <cats_int64s = [4, 0, 2], zeros = 1> (y)
      numbers = Cast <to = 1> (whole)
      beside = ai.onnx.ml.FeatureVectorizer <inputdimensions = [2, 2]> (filled, numbers) }"""
