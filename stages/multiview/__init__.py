"""Stages of node multiview: from one picture to four views."""
