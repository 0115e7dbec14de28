"""Verdicts about new versions to protobuf messages and back, for the registry and for jobs alike."""

from shared.model_version import PromotionOutcome, PromotionVerdict
from shared.pb.weightcast.v1 import training_pb2 as pb
from shared.proto_values import key_of
from shared.spec_codec import promotion_from_proto, promotion_to_proto

OUTCOMES = {
    PromotionOutcome.PROMOTED: pb.PromotionVerdict.OUTCOME_PROMOTED,
    PromotionOutcome.NOT_BETTER: pb.PromotionVerdict.OUTCOME_NOT_BETTER,
    PromotionOutcome.NOT_COMPARABLE: pb.PromotionVerdict.OUTCOME_NOT_COMPARABLE,
    PromotionOutcome.MANUAL: pb.PromotionVerdict.OUTCOME_MANUAL,
    PromotionOutcome.HELD: pb.PromotionVerdict.OUTCOME_HELD,
}


def verdict_to_proto(verdict: PromotionVerdict) -> pb.PromotionVerdict:
    """A verdict as a message."""
    return pb.PromotionVerdict(
        outcome=OUTCOMES[verdict.outcome],
        promotion=promotion_to_proto(verdict.promotion),
        accuracy=verdict.accuracy,
        live_version=verdict.live_version,
        live_accuracy=verdict.live_accuracy,
    )


def verdict_from_proto(proto: pb.PromotionVerdict) -> PromotionVerdict:
    """A verdict from a message; ValueError for an outcome that this build does not know."""
    return PromotionVerdict(
        outcome=key_of(OUTCOMES, proto.outcome, "outcome"),
        promotion=promotion_from_proto(proto.promotion),
        accuracy=proto.accuracy,
        live_version=proto.live_version,
        live_accuracy=proto.live_accuracy if proto.HasField("live_accuracy") else None,
    )
