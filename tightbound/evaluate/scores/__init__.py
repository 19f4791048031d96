"""Scores of disentanglement: functions of codes and the factors that data were made of."""
