"""One run asks to come in: who it is for, which rules apply, and what the caller is told."""

from headgate.intake.intake import Intake
from headgate.intake.outlook import Outlook
from headgate.intake.submission import Submission

__all__ = ["Intake", "Outlook", "Submission"]
