"""Where somebody speaks in a signal that rises and falls like speech, by silero-vad's ONNX path."""

import json

import numpy
import torch
from silero_vad import get_speech_timestamps, load_silero_vad

RATE = 16_000


def signal():
    """Two stretches of harmonics under a moving envelope, in noise."""
    rng = numpy.random.default_rng(0)
    time = numpy.arange(4 * RATE) / RATE
    voice = sum(numpy.sin(2 * numpy.pi * 130 * k * time + 3 * numpy.sin(9 * time)) / k for k in range(1, 25))
    syllables = numpy.clip(numpy.sin(2 * numpy.pi * 4 * time), 0, 1)
    speaks = ((time > 0.5) & (time < 1.7)) | ((time > 2.4) & (time < 3.5))
    return (0.1 * voice * syllables * speaks + 0.001 * rng.normal(size=time.size)).astype(numpy.float32)


def main():
    audio = torch.from_numpy(signal())
    model = load_silero_vad(onnx=True)
    chances = [model(audio[at : at + 512], RATE).item() for at in range(0, len(audio) - 511, 512)]
    model.reset_states()
    stamps = get_speech_timestamps(audio, model, threshold=0.3)
    print(json.dumps([[round(chance, 3) for chance in chances], stamps]))


main()
