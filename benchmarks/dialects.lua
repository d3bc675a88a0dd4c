-- Sends BODY with each @ replaced by a text that was never sent before, and prints one line of JSON.
local body, run, sent = os.getenv("BODY"), os.getenv("RUN"), 0
local headers = { ["content-type"] = "application/json" }
local failed = 0

function request()
  local filled = body:gsub("@", function()
    sent = sent + 1
    return "WIN a FREE phone, call " .. run .. sent
  end)
  return wrk.format("POST", os.getenv("ROUTE"), headers, filled)
end

function done(summary, latency)
  failed = summary.errors.status + summary.errors.connect + summary.errors.read + summary.errors.timeout
  io.write(string.format('RESULT {"requests": %d, "seconds": %f, "failed": %d}\n',
    summary.requests, summary.duration / 1e6, failed))
end
