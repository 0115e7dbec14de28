"""Weightcast for Python programs: train by RPC, classify by RPC, and read the reason when something is refused."""

from client.errors import RpcError
from client.inference_client import InferenceClient, Prediction
from client.trainer_client import TrainerClient

__all__ = ["InferenceClient", "Prediction", "RpcError", "TrainerClient"]
