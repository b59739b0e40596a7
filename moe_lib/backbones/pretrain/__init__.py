"""How the pocket models were made: ``python -m moe_lib.backbones.pretrain``."""
