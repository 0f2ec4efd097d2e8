"""Kills, faults and damaged input at random: does the program stay right?"""
