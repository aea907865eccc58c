"""The components on AWS, and what a program needs to put them together."""

from __future__ import annotations

from .alerts import Alerts, AlertsArgs
from .base import Scope
from .budget_guard import BudgetGuard, BudgetGuardArgs
from .gpu_fleet import GpuFleet, GpuFleetArgs
from .inference_queue import InferenceQueue, InferenceQueueArgs
from .network import Network, NetworkArgs
from .nodes import CustomNode, Model, ModelNode
from .provider import provider
from .queue_depth_scaler import QueueDepthScaler, QueueDepthScalerArgs, ScalingPolicy, Window
from .refs import AlertsRef, BudgetRef, CapacityReservation, FleetRef, QueueRef, Unlimited
from .spending import Spending

__all__ = [
    "Alerts",
    "AlertsArgs",
    "AlertsRef",
    "BudgetGuard",
    "BudgetGuardArgs",
    "BudgetRef",
    "CapacityReservation",
    "CustomNode",
    "FleetRef",
    "GpuFleet",
    "GpuFleetArgs",
    "InferenceQueue",
    "InferenceQueueArgs",
    "Model",
    "ModelNode",
    "Network",
    "NetworkArgs",
    "QueueDepthScaler",
    "QueueDepthScalerArgs",
    "QueueRef",
    "ScalingPolicy",
    "Scope",
    "Spending",
    "Unlimited",
    "Window",
    "provider",
]
